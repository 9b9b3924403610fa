"""Seeded histories of flow events: every kind, right and wrong, on few owners so that they meet."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from pipeline.domain.account import AccountCode
from pipeline.domain.flows.accounts import ANCHORS, account
from pipeline.domain.flows.events import EventName, FlowEvent, Kind, Party
from pipeline.domain.flows.outcome import Opening

T0 = 1_800_000_000_000
ASSETS = ("SOVR", "USD")
WEIGHTS = {kind: 4 for kind in Kind if kind != Kind.CLOSE} | {
    Kind.DEPOSIT: 16,
    Kind.PAYMENT: 10,
    Kind.AUTHORIZE: 10,
    Kind.CLAIM: 10,
    Kind.LOCK: 10,
    Kind.FREEZE: 1,
    Kind.THAW: 3,
}
"""How often each kind is drawn; closing for good would soon end every history."""


@dataclass
class FlowHistory:
    """Draws events; `prefix` keeps histories on one store apart."""

    seed: int
    prefix: str = ""
    users: int = 5
    merchants: int = 2
    random: Random = field(init=False)

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        self.number = 0
        self.names: dict[Kind, list[FlowEvent]] = {kind: [] for kind in Kind}

    def user(self) -> Party:
        return Party(f"{self.prefix}u{self.random.randrange(self.users)}")

    def merchant(self) -> Party:
        return Party(f"{self.prefix}m{self.random.randrange(self.merchants)}", AccountCode.MERCHANT)

    def openings(self) -> list[Opening]:
        parties = [Party(f"{self.prefix}u{n}") for n in range(self.users)]
        parties += [Party(f"{self.prefix}m{n}", AccountCode.MERCHANT) for n in range(self.merchants)]
        return [
            Opening(
                EventName("test", "open", f"{asset}/{party.owner}"),
                T0,
                account(asset, party.code, party.owner),
            )
            for asset in ASSETS
            for party in parties
        ]

    def event(self, kind: Kind, **fields: object) -> FlowEvent:
        self.number += 1
        fields.setdefault("time_ms", T0 + self.number * 1000)
        name = EventName("test", self.prefix, f"e{self.number}")
        made = FlowEvent(kind=kind, name=name, **fields)  # type: ignore[arg-type]
        self.names[kind].append(made)
        return made

    def draw(self, count: int) -> list[FlowEvent]:
        """Events; about one in eight is a repetition of an earlier one."""
        found: list[FlowEvent] = []
        while len(found) < count:
            if found and self.random.random() < 0.12:
                found.append(self.random.choice(found))
            else:
                found.append(self._one())
        return found

    def _one(self) -> FlowEvent:
        r = self.random
        amount = r.choice((1, 5, 40, 300))
        asset = r.choice(ASSETS)
        kind = r.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        subject = f"{self.prefix}s{self.number // r.choice((1, 4))}"
        late = {"time_ms": T0 + 10**9} if r.random() < 0.5 else {}
        match kind:
            case Kind.DEPOSIT:
                return self.event(kind, asset=asset, amount=amount * 3, creditor=self.user())
            case Kind.WITHDRAWAL | Kind.FEE:
                return self.event(kind, asset=asset, amount=amount, debtor=self.user())
            case Kind.PAYMENT:
                return self.event(
                    kind, asset=asset, amount=amount, debtor=self.user(), creditor=self.merchant()
                )
            case Kind.REFUND:
                return self._refund(amount)
            case Kind.SETTLE:
                return self.event(kind, asset=asset, amount=amount, debtor=self.merchant())
            case Kind.REVERSE:
                settled = self._earlier(Kind.SETTLE)
                return self.event(kind, asset=settled.asset, creditor=settled.debtor, reference=settled.name)
            case Kind.AUTHORIZE:
                ends = T0 + r.choice((0, 10**8))
                return self.event(kind, amount=amount, debtor=self.user(), subject=subject,
                                  anchor=r.choice(ANCHORS), expires_ms=0 if ends == T0 else ends)  # fmt: skip
            case Kind.CLAIM:
                return self.event(kind, subject=self._subject(Kind.AUTHORIZE))
            case Kind.FULFIL:
                return self.event(
                    kind, subject=self._subject(Kind.AUTHORIZE), proof="p", attested=r.random() < 0.9
                )
            case Kind.EXPIRE:
                begun = self._earlier(Kind.AUTHORIZE)
                return self.event(kind, subject=begun.subject, creditor=begun.debtor, **late)
            case Kind.LOCK:
                return self.event(kind, asset=asset, amount=amount, debtor=self.user(), subject=subject,
                                  expires_ms=T0 + 10**8)  # fmt: skip
            case Kind.RELEASE:
                held = self._earlier(Kind.LOCK)
                return self.event(kind, asset=held.asset, debtor=held.debtor, creditor=self.merchant(),
                                  subject=held.subject, amount=r.choice((None, 1)))  # fmt: skip
            case Kind.VOID | Kind.LAPSE:
                held = self._earlier(Kind.LOCK)
                return self.event(kind, asset=held.asset, debtor=held.debtor, subject=held.subject, **late)
            case Kind.THAW:
                frozen = self._earlier(Kind.FREEZE)
                return self.event(kind, asset=frozen.asset, debtor=frozen.debtor)
            case _:
                return self.event(kind, asset=asset, debtor=self.user())

    def _refund(self, amount: int) -> FlowEvent:
        paid = self._earlier(Kind.PAYMENT)
        return self.event(Kind.REFUND, asset=paid.asset, amount=amount, debtor=paid.creditor,
                          creditor=paid.debtor, reference=paid.name)  # fmt: skip

    def _earlier(self, kind: Kind) -> FlowEvent:
        while not self.names[kind]:
            self._force(kind)
        return self.random.choice(self.names[kind][-8:])

    def _force(self, kind: Kind) -> None:
        """An event of this kind that will be refused: nothing like it was drawn yet."""
        self.event(kind, asset="USD" if kind != Kind.AUTHORIZE else "SOVR", amount=1, debtor=self.user(),
                   creditor=self.merchant(), subject="none", anchor="FUEL")  # fmt: skip

    def _subject(self, kind: Kind) -> str:
        return self._earlier(kind).subject

"""Seeded random histories aimed at every status code, and what two engines must agree on about them.

A history is a list of steps that name timestamps symbolically (`Stamp`), because two engines have two clocks.
`play` runs it on one engine and answers what was seen with timestamps made symbolic again, so that equal
engines answer equal lists.
"""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass, field, replace
from itertools import count
from typing import Any

import tigerbeetle as tb

MAX = (1 << 128) - 1
HUGE = 1 << 127
A, T = tb.AccountFlags, tb.TransferFlags
KINDS = {"create_accounts": tb.Account, "create_transfers": tb.Transfer}
ACCOUNT_FLAGS = [
    A.NONE,
    A.NONE,
    A.NONE,
    A.HISTORY,
    A.DEBITS_MUST_NOT_EXCEED_CREDITS,
    A.CREDITS_MUST_NOT_EXCEED_DEBITS,
    A.DEBITS_MUST_NOT_EXCEED_CREDITS | A.HISTORY,
    A.CLOSED,
]
ACCOUNT_FAULTS: list[tuple[str, list[Any]]] = [
    ("id", [0, MAX]),
    ("flags", [A(1 << 6), A(6), A.LINKED, A(1 << 15), A.HISTORY, A.CLOSED, A.IMPORTED]),
    ("debits_pending", [1]),
    ("debits_posted", [1]),
    ("credits_pending", [1]),
    ("credits_posted", [1]),
    ("user_data_128", [0, 77]),
    ("user_data_64", [0, 77]),
    ("user_data_32", [0, 77]),
    ("ledger", [0, 3]),
    ("code", [0, 3]),
    ("timestamp", [1]),
]
TRANSFER_FAULTS: list[tuple[str, list[Any]]] = [
    ("id", [0, MAX]),
    ("debit_account_id", [0, MAX, 99]),
    ("credit_account_id", [0, MAX, 99]),
    ("amount", [0, 1, 7, MAX, MAX - 1, HUGE]),
    ("pending_id", [0, MAX, 99]),
    ("user_data_128", [0, 77]),
    ("user_data_64", [0, 77]),
    ("user_data_32", [0, 77]),
    ("timeout", [0, 1 << 20, 3600]),
    ("ledger", [0, 2, 3]),
    ("code", [0, 3]),
    ("flags", [T(1 << bit) for bit in (1, 2, 3, 4, 5, 6, 7, 8, 9, 15)] + [T.NONE, T(12), T(6)]),
    ("timestamp", [1]),
]


@dataclass(frozen=True)
class Stamp:
    """`plus` ns after the creation of `of` (an (operation, id) pair), or after the last mark if None."""

    of: tuple[str, int] | None
    plus: int = 0


@dataclass
class History:
    """Draws steps; keeps what it sent so that it can send it again, changed or not."""

    seed: int
    base: int = 1 << 60  # all ids lie above: another one per history where engines are shared
    steps: list[tuple[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.ids = count(self.base + 1000)
        self.accounts = [self.base + n for n in range(1, 17)]
        self.whales = [self.base + n for n in (17, 18)]
        self.sent_accounts: list[tb.Account] = []
        self.sent: list[tb.Transfer] = []
        self.pending: list[tb.Transfer] = []

    def draw(self, batches: int, expiry: bool) -> list[tuple[str, Any]]:
        self.steps.append(("mark", None))
        self._create_all()
        for number in range(batches):
            roll = self.rng.random()
            if roll < 0.08:
                self._accounts()
            elif roll < 0.16:
                self._imported()
            else:
                self._transfers()
            if number % 8 == 7:
                self._look()
        if expiry:
            self._expiry()
        self._look()
        return self.steps

    def _create_all(self) -> None:
        batch = []
        for ident in self.accounts + self.whales:
            flags = A.NONE if ident in self.whales else self.rng.choice(ACCOUNT_FLAGS)
            ledger = self.rng.choice([1, 1, 1, 1, 2])
            batch.append(
                tb.Account(id=ident, ledger=1 if ident in self.whales else ledger, code=1, flags=flags)
            )
        self.sent_accounts += batch
        self.steps.append(("create_accounts", batch))

    def _accounts(self) -> None:
        batch = []
        for _ in range(self.rng.randint(1, 8)):
            if self.rng.random() < 0.5:
                event = replace(self.rng.choice(self.sent_accounts))
            else:
                event = tb.Account(
                    id=next(self.ids),
                    user_data_128=self.rng.randint(0, 3),
                    user_data_64=self.rng.randint(0, 3),
                    ledger=1,
                    code=1,
                    flags=self.rng.choice(ACCOUNT_FLAGS),
                )
            event = self._spoiled(event, ACCOUNT_FAULTS, 0.6)
            if self.rng.random() < 0.25:
                event.flags |= A.LINKED
            batch.append(event)
        self.sent_accounts += [replace(event) for event in batch]
        self.steps.append(("create_accounts", batch))

    def _spoiled(self, event: Any, faults: list[tuple[str, list[Any]]], likely: float) -> Any:
        if self.rng.random() < likely:
            for name, values in self.rng.sample(faults, self.rng.choice([1, 1, 1, 2, 3])):
                setattr(event, name, self.rng.choice(values))
        return event

    def _movement(self) -> tb.Transfer:
        if self.rng.random() < 0.12:
            debit, credit = self.rng.sample(self.whales, 2)
            amount = self.rng.choice([HUGE, HUGE - 1, MAX, MAX - HUGE, 1])
        else:
            debit, credit = self.rng.sample(self.accounts, 2)
            amount = self.rng.choice([0, 1, 2, 3, 5, 8, 13, 1 << 64, MAX])
            amount = amount if self.rng.random() < 0.2 else self.rng.randint(0, 20)
        flags = self.rng.choice(
            [T.NONE] * 6 + [T.PENDING] * 4 + [T.BALANCING_DEBIT, T.BALANCING_CREDIT, T(48)]
        )
        if flags & T.PENDING and self.rng.random() < 0.12:
            flags |= self.rng.choice([T.CLOSING_DEBIT, T.CLOSING_CREDIT])
        if flags & T(48) and self.rng.random() < 0.3:
            flags |= T.PENDING
        return tb.Transfer(
            id=next(self.ids),
            debit_account_id=debit,
            credit_account_id=credit,
            amount=amount,
            user_data_128=self.rng.randint(0, 2),
            user_data_64=self.rng.randint(0, 2),
            user_data_32=self.rng.randint(0, 2),
            timeout=self.rng.choice([0, 0, 3600]) if flags & T.PENDING else 0,
            ledger=self.rng.choice([1, 1, 1, 1, 1, 2]),
            code=self.rng.randint(1, 2),
            flags=flags,
        )

    def _resolution(self, of: tb.Transfer) -> tb.Transfer:
        post = self.rng.random() < 0.5
        same = self.rng.random() < 0.4
        return tb.Transfer(
            id=next(self.ids),
            debit_account_id=of.debit_account_id if same else 0,
            credit_account_id=of.credit_account_id if same else 0,
            amount=self.rng.choice(
                [0, of.amount, of.amount, MAX, max(of.amount - 1, 0), min(of.amount + 1, MAX)]
            ),
            pending_id=of.id,
            user_data_128=self.rng.choice([0, 0, 5]),
            user_data_64=self.rng.choice([0, 0, 5]),
            user_data_32=self.rng.choice([0, 0, 5]),
            ledger=of.ledger if same else 0,
            code=of.code if same else 0,
            flags=T.POST_PENDING_TRANSFER if post else T.VOID_PENDING_TRANSFER,
        )

    def _transfer(self) -> tb.Transfer:
        roll = self.rng.random()
        if self.sent and roll < 0.2:
            return self._spoiled(replace(self.rng.choice(self.sent[-120:])), TRANSFER_FAULTS, 0.6)
        if self.pending and roll < 0.45:
            of = (
                self.rng.choice(self.pending[-12:])
                if roll < 0.42
                else self.rng.choice(self.sent or self.pending)
            )
            event = self._spoiled(self._resolution(of), TRANSFER_FAULTS, 0.3)
            if self.rng.random() < 0.03:
                event.pending_id = event.id
            return event
        event = self._spoiled(self._movement(), TRANSFER_FAULTS, 0.3)
        if self.rng.random() < 0.03:
            event.credit_account_id = event.debit_account_id
        return event

    def _transfers(self) -> None:
        batch = []
        tame = self.rng.random() < 0.3
        for _ in range(self.rng.choice([1, 2, 5, 10, 30])):
            event = self._tame() if tame else self._transfer()
            if self.rng.random() < 0.15:
                event.flags |= T.LINKED
            batch.append(event)
            if event.flags & T.PENDING:
                self.pending.append(event)
        if self.rng.random() < 0.9:
            batch[-1].flags &= ~T.LINKED
        self._send(batch)

    def _tame(self) -> tb.Transfer:
        """What a batch judged as columns is made of, with few faults."""
        if self.sent and self.rng.random() < 0.3:
            return self._spoiled(replace(self.rng.choice(self.sent[-120:])), TRANSFER_FAULTS[1:-2], 0.2)
        event = self._movement()
        event.flags &= T.PENDING
        event.amount = min(event.amount, HUGE)
        if not event.flags:
            event.timeout = 0
        return self._spoiled(event, TRANSFER_FAULTS[:-2], 0.1)

    def _send(self, batch: list[tb.Transfer]) -> None:
        self.sent += [replace(event) for event in batch if isinstance(event.timestamp, int)]
        self.steps.append(("create_transfers", batch))

    def _imported(self) -> None:
        """A batch with timestamps of its own, right after a mark; never a resolution of a timed transfer."""
        self.steps.append(("mark", None))
        young = [tb.Account(id=next(self.ids), ledger=1, code=1) for _ in range(2)]
        if self.rng.random() < 0.3:
            self.steps.append(("create_accounts", young))
        ours = self.rng.random() < 0.3
        offsets = sorted(self.rng.sample(range(40), self.rng.randint(1, 6)))
        batch: list[Any] = []
        for offset in offsets:
            if ours:
                flags = self.rng.choice([A.NONE, A.HISTORY]) | A.IMPORTED
                event: Any = tb.Account(id=next(self.ids), ledger=1, code=1, flags=flags)
            else:
                untimed = [p for p in self.pending[-12:] if not p.timeout and p.id not in (0, MAX)]
                if untimed and self.rng.random() < 0.3:
                    event = self._resolution(self.rng.choice(untimed))
                else:
                    event = self._movement()
                    event.timeout = self.rng.choice([0, 0, 0, 60]) if event.flags & T.PENDING else 0
                    if self.rng.random() < 0.3:
                        event.debit_account_id = young[0].id
                    if self.rng.random() < 0.3:
                        event.credit_account_id = young[1].id
                event.flags |= T.IMPORTED
            if self.rng.random() < 0.2:
                event.flags |= T.LINKED
            if self.rng.random() < 0.1:
                event.flags &= ~(A.IMPORTED if ours else T.IMPORTED)
            odd = [0, 1 << 63, (1 << 63) - 1, Stamp(None, -1), Stamp(("create_accounts", self.accounts[0]))]
            event.timestamp = self.rng.choice(odd) if self.rng.random() < 0.2 else Stamp(None, offset)
            batch.append(event)
        if ours:
            self.steps.append(("create_accounts", batch))
        else:
            self._send(batch)

    def _expiry(self) -> None:
        batch = []
        for _ in range(12):
            event = self._movement()
            event.flags, event.timeout = T.PENDING, 1
            if self.rng.random() < 0.2:
                event.flags |= T.CLOSING_DEBIT
            batch.append(event)
        self._send(batch)
        self._send([self._resolution(event) for event in batch[:3]])
        self.steps.append(("wait", 1.7))
        self._look()
        self._send([self._resolution(event) for event in batch] + [replace(event) for event in batch])

    def _look(self) -> None:
        accounts = self.accounts + self.whales + [event.id for event in self.sent_accounts]
        self.steps.append(("lookup_accounts", list(dict.fromkeys(accounts))))
        self.steps.append(("lookup_transfers", list(dict.fromkeys(event.id for event in self.sent))))
        for _ in range(6):
            self.steps.append(
                (self.rng.choice(["get_account_transfers", "get_account_balances"]), self._about())
            )
            self.steps.append((self.rng.choice(["query_accounts", "query_transfers"]), self._query()))

    def _range(self) -> dict[str, Any]:
        first = Stamp(("create_accounts", self.accounts[0]), self.rng.randint(0, 3))
        low: Any = first
        if self.sent and self.rng.random() < 0.3:
            low = Stamp(("create_transfers", self.rng.choice(self.sent).id))
        high: Any = self.rng.choice([0, 0, 0, (1 << 63) - 1, 1 << 63, 1])
        if self.sent and self.rng.random() < 0.3:
            high = Stamp(("create_transfers", self.rng.choice(self.sent).id), self.rng.randint(-1, 1))
        return {
            "user_data_128": self.rng.choice([0, 0, 1, 2]),
            "user_data_64": self.rng.choice([0, 0, 1]),
            "user_data_32": self.rng.choice([0, 0, 0, 1]),
            "code": self.rng.choice([0, 0, 1, 2]),
            "timestamp_min": low,
            "timestamp_max": high,
            "limit": self.rng.choice([0, 1, 3, 50, 8189, 8189]),
        }

    def _about(self) -> tb.AccountFilter:
        flags = tb.AccountFilterFlags(self.rng.choice([0, 1, 2, 3, 3, 3, 7, 7, 5, 8]))
        ident = self.rng.choice([*self.accounts, *self.accounts, *self.whales, 0, MAX, 99])
        return tb.AccountFilter(account_id=ident, flags=flags, **self._range())

    def _query(self) -> tb.QueryFilter:
        flags = tb.QueryFilterFlags(self.rng.choice([0, 0, 0, 1, 1, 2]))
        return tb.QueryFilter(ledger=self.rng.choice([0, 1, 1, 2]), flags=flags, **self._range())


class Player:
    """Runs steps on one engine; `wait` lets its clock run on."""

    def __init__(self, engine: Any, wait: Any) -> None:
        self.engine, self.wait = engine, wait
        self.stamps: dict[tuple[str, int], int] = {}
        self.names: dict[int, Any] = {}
        self.mark = self.first = 0
        self.marks = count(1)
        self.statuses: set[Any] = set()

    def play(self, steps: list[tuple[str, Any]]) -> list[Any]:
        self.base = min(
            event.id for op, events in steps if op == "create_accounts" for event in events if event.id
        )
        return [self._step(op, argument) for op, argument in steps]

    def _step(self, op: str, argument: Any) -> Any:
        if op == "mark":
            number = next(self.marks)
            ident = self.base + 500 + number
            (result,) = self.engine.create_accounts([tb.Account(id=ident, ledger=1, code=9)])
            assert result.status == tb.CreateAccountStatus.CREATED
            self.mark = result.timestamp
            self.first = self.first or self.mark
            self.names |= {self.mark + n: ("mark", number, n) for n in range(64)}
            return op
        if op == "wait":
            self.wait(argument)
            return op
        if op in KINDS:
            return op, self._create(op, argument)
        if op.startswith("lookup"):
            rows = getattr(self.engine, op)(argument)
        else:
            rows = getattr(self.engine, op)(self._resolved(argument, "timestamp_min", "timestamp_max"))
        return (
            op,
            argument if not op.startswith("lookup") else len(argument),
            [self._named(row) for row in rows],
        )

    def _resolved(self, value: Any, *fields: str) -> Any:
        value = replace(value)
        for name in fields:
            stamp = getattr(value, name)
            if isinstance(stamp, Stamp):
                known = self.mark if stamp.of is None else self.stamps.get(stamp.of, self.first)
                setattr(value, name, known + stamp.plus)
        return value

    def _create(self, op: str, events: list[Any]) -> list[Any]:
        results = getattr(self.engine, op)([self._resolved(event, "timestamp") for event in events])
        start = max(result.timestamp - index for index, result in enumerate(results))
        seen = []
        for index, (event, result) in enumerate(zip(events, results, strict=True)):
            self.statuses.add((op, result.status.name))
            if result.status.name == "CREATED":
                self.stamps[op, event.id] = result.timestamp
                self.names.setdefault(result.timestamp, (op, event.id))
            name = self.names.get(result.timestamp, ("batch", result.timestamp - start - index))
            if result.status.name == "LINKED_EVENT_FAILED" and name[0] == "batch":
                name = ("batch", 0)
            seen.append((result.status.name, name))
        return seen

    def _named(self, row: Any) -> dict[str, Any]:
        fields = asdict(row)
        fields["timestamp"] = self.names.get(row.timestamp, "unnamed")
        return fields

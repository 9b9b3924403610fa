"""One contract for the off-chain flows on both engines: the embedded one always, a real cluster where found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from random import Random

import pytest
from flow_histories import ASSETS, T0, FlowHistory
from test_books_engines import cluster  # noqa: F401

from pipeline.domain.account import AccountCode, AccountRef, TransferCode
from pipeline.domain.flows.accounts import ANCHORS, CLOSED, account, broken_sign, ident
from pipeline.domain.flows.balances import fold, sums_of
from pipeline.domain.flows.events import EventName, FlowEvent, Kind, Leg, Party
from pipeline.domain.flows.outcome import Opening, Outcome, decisions, in_decided_order, transfer_records
from sinks.books import Books
from sinks.embedded_books import EmbeddedBooks
from sinks.offchain import OffchainBooks

_numbers = count()


def fresh(directory: Path) -> OffchainBooks:
    return OffchainBooks(EmbeddedBooks(directory, sync=False))


class Bench:
    """An engine with accounts of alice, bob and a shop of its own, and short words for events."""

    def __init__(self, books: Books) -> None:
        self.books, self.flows = books, OffchainBooks(books)
        self.tag = f"t{next(_numbers)}-"
        self.alice, self.bob = Party(f"{self.tag}alice"), Party(f"{self.tag}bob")
        self.shop = Party(f"{self.tag}shop", AccountCode.MERCHANT)
        self.clock = T0
        self.keys = count()
        for party in (self.alice, self.bob, self.shop):
            self.flows.open_accounts([Opening(self.name(), T0, account("SOVR", party.code, party.owner))])

    def name(self, key: str = "") -> EventName:
        return EventName("test", self.tag, key or f"k{next(self.keys)}")

    def event(self, kind: Kind, **fields: object) -> FlowEvent:
        self.clock += 1000
        fields = {"time_ms": self.clock, "name": self.name(), **fields}
        if kind not in (Kind.AUTHORIZE, Kind.CLAIM, Kind.FULFIL, Kind.EXPIRE):
            fields.setdefault("asset", "SOVR")
        if "subject" in fields:
            fields["subject"] = self.tag + str(fields["subject"])
        return FlowEvent(kind=kind, **fields)  # type: ignore[arg-type]

    def do(self, kind: Kind, **fields: object) -> Outcome:
        """Apply an event; a second time it must be the same answer and change nothing."""
        event = self.event(kind, **fields)
        first = self.flows.apply([event])[0]
        before = self.all_balances()
        again = OffchainBooks(self.books).apply([event])[0]
        assert again.repeated and again.accepted == first.accepted and again.plan == first.plan
        assert self.all_balances() == before
        return first

    def yes(self, kind: Kind, **fields: object) -> FlowEvent:
        outcome = self.do(kind, **fields)
        assert outcome.refused is None, outcome.refused
        return outcome.event

    def no(self, reason: str, field: str, kind: Kind, **fields: object) -> FlowEvent:
        outcome = self.do(kind, **fields)
        assert outcome.refused is not None
        assert outcome.refused[:2] == (reason, field), outcome.refused
        return outcome.event

    def fund(self, party: Party, amount: int) -> None:
        self.yes(Kind.DEPOSIT, amount=amount, creditor=party)

    def held(self, party: Party, asset: str = "SOVR", code: AccountCode | None = None) -> tuple[int, int]:
        """(posted, locked by pending transfers)."""
        ref = account(asset, code or party.code, party.owner)
        row = self.flows.store.accounts([ref])[ref]
        return (0, 0) if row is None else (row.credits_posted - row.debits_posted, row.debits_pending)

    def all_balances(self) -> list[tuple[int, int]]:
        anchors = [self.held(Party(anchor), code=AccountCode.ANCHOR) for anchor in ANCHORS]
        return [*map(self.held, (self.alice, self.bob, self.shop)), *anchors]


@pytest.fixture(params=["embedded", "cluster"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    if request.param == "cluster":
        yield Bench(request.getfixturevalue("cluster"))
        return
    books = EmbeddedBooks(tmp_path, sync=False)
    yield Bench(books)
    books.close()


def test_money_in_round_and_out(bench: Bench) -> None:
    bench.fund(bench.alice, 100)
    paid = bench.yes(Kind.PAYMENT, amount=60, debtor=bench.alice, creditor=bench.shop)
    bench.yes(Kind.FEE, amount=1, debtor=bench.alice)
    bench.yes(Kind.WITHDRAWAL, amount=9, debtor=bench.alice)
    refund = {"debtor": bench.shop, "creditor": bench.alice, "reference": paid.name}
    bench.yes(Kind.REFUND, amount=20, **refund)
    bench.yes(Kind.REFUND, amount=40, **refund)
    bench.no("exceeds_payment", "amount", Kind.REFUND, amount=1, **refund)
    assert bench.held(bench.alice) == (90, 0)
    assert bench.held(bench.shop) == (0, 0)


def test_refusals_name_the_field(bench: Bench) -> None:
    bench.fund(bench.alice, 10)
    pay = {"debtor": bench.alice, "creditor": bench.bob}
    bench.no("insufficient_balance", "debtor", Kind.PAYMENT, amount=11, **pay)
    bench.no(
        "account_not_found", "creditor", Kind.PAYMENT, amount=1, debtor=bench.alice, creditor=Party("nobody")
    )
    bench.no(
        "account_not_found", "debtor", Kind.PAYMENT, amount=1, debtor=Party("nobody"), creditor=bench.bob
    )
    bench.no("same_account", "creditor", Kind.PAYMENT, amount=1, debtor=bench.bob, creditor=bench.bob)
    bench.no("amount_not_positive", "amount", Kind.PAYMENT, amount=0, **pay)
    bench.no("amount_over_u128", "amount", Kind.PAYMENT, amount=1 << 128, **pay)
    bench.no("unknown_asset", "asset", Kind.PAYMENT, asset="DOGE", amount=1, **pay)
    bench.no("unknown_reference", "reference", Kind.REFUND, amount=1, reference=bench.name("none"), **pay)
    bench.no("overflow", "amount", Kind.DEPOSIT, amount=(1 << 128) - 2, creditor=bench.alice)
    assert bench.held(bench.alice) == (10, 0)


def test_a_refused_event_is_refused_for_ever_and_another_attempt_is_another_event(bench: Bench) -> None:
    event = bench.no("insufficient_balance", "debtor", Kind.WITHDRAWAL, amount=5, debtor=bench.alice)
    bench.fund(bench.alice, 10)
    assert bench.flows.apply([event])[0].refused.reason == "refused_before"  # type: ignore[union-attr]
    retry = replace(event, name=event.name._replace(attempt=1))
    assert bench.flows.apply([retry])[0].accepted
    assert bench.held(bench.alice) == (5, 0)


def test_refusals_that_the_engine_never_saw_are_final_too(bench: Bench) -> None:
    event = bench.no("unknown_authorization", "subject", Kind.CLAIM, subject="a")
    bench.fund(bench.alice, 10)
    bench.yes(Kind.AUTHORIZE, amount=5, debtor=bench.alice, subject="a", anchor="FUEL")
    assert bench.flows.apply([event])[0].refused.reason == "refused_before"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"amount": 6}, "amount"), ({"time_ms": T0 + 1}, "time"), ({"asset": "USD"}, "debtor"),
        ({"proof": "other"}, "content"), ({"creditor": Party("x")}, "creditor"),
        ({"kind": Kind.WITHDRAWAL, "debtor": Party("x"), "creditor": None}, "debtor"),
        ({"kind": Kind.VOID, "subject": "s", "debtor": Party("x"), "amount": None}, "subject"),
    ],
)  # fmt: skip
def test_an_event_id_with_other_content_is_refused_and_changes_nothing(
    bench: Bench, change: dict[str, object], field: str
) -> None:
    event = bench.yes(Kind.DEPOSIT, amount=5, creditor=bench.alice)
    other = bench.flows.apply([replace(event, **change)])[0]  # type: ignore[arg-type]
    assert other.reused and other.refused is not None
    assert (other.refused.reason, other.refused.field) == ("event_reused", field)
    assert bench.held(bench.alice) == (5, 0)
    assert bench.flows.apply([event])[0].accepted


def _authorized(bench: Bench, **more: object) -> None:
    bench.fund(bench.alice, 100)
    bench.yes(Kind.AUTHORIZE, amount=100, debtor=bench.alice, subject="a", anchor="GROCERY", **more)
    assert bench.held(bench.alice) == (0, 0)


def _owed(bench: Bench) -> tuple[int, int]:
    grocery = Party("GROCERY", AccountCode.ANCHOR)
    return bench.held(grocery)[0], bench.held(grocery, "GROCERY_OBLIGATION")[0]


def test_authorize_claim_fulfil(bench: Bench) -> None:
    before = _owed(bench)
    _authorized(bench)
    claim = bench.yes(Kind.CLAIM, subject="a")
    assert _owed(bench) == (before[0] + 100, before[1] + 100)
    bench.no("already_claimed", "subject", Kind.CLAIM, subject="a")
    bench.no("not_attested", "attested", Kind.FULFIL, subject="a", proof="p")
    bench.yes(Kind.FULFIL, subject="a", proof="p", attested=True)
    assert _owed(bench) == before
    bench.no("already_ended", "subject", Kind.FULFIL, subject="a", proof="p", attested=True)
    bench.no("already_ended", "subject", Kind.EXPIRE, subject="a", creditor=bench.alice)
    assert bench.held(bench.alice) == (0, 0)
    moves = bench.flows.apply([claim])[0].plan.moves  # type: ignore[union-attr]
    assert [move.code for move in moves] == [TransferCode.ANCHOR_AUTHORIZATION] * 3


def test_fulfilment_needs_a_claim(bench: Bench) -> None:
    _authorized(bench)
    bench.no("not_claimed", "subject", Kind.FULFIL, subject="a", proof="p", attested=True)


@pytest.mark.parametrize("claimed", [False, True])
def test_expiry_gives_back_once(bench: Bench, claimed: bool) -> None:
    before = _owed(bench)
    _authorized(bench, expires_ms=T0 + 10**6)
    if claimed:
        bench.yes(Kind.CLAIM, subject="a")
    late = {"time_ms": T0 + 10**6}
    bench.no("not_expired", "time", Kind.EXPIRE, subject="a", creditor=bench.alice, time_ms=T0 + 10**6 - 1)
    bench.no("other_party", "creditor", Kind.EXPIRE, subject="a", creditor=bench.bob, **late)
    bench.yes(Kind.EXPIRE, subject="a", creditor=bench.alice, **late)
    assert (bench.held(bench.alice), _owed(bench)) == ((100, 0), before)
    bench.no("already_ended", "subject", Kind.CLAIM, subject="a", **late)
    bench.no("already_ended", "subject", Kind.EXPIRE, subject="a", creditor=bench.alice, **late)
    no_more = bench.do(Kind.FULFIL, subject="a", proof="p", attested=True).refused
    assert no_more is not None and no_more.reason == "already_ended"


def test_after_its_end_an_authorization_is_neither_claimed_nor_fulfilled(bench: Bench) -> None:
    _authorized(bench, expires_ms=T0 + 10**6)
    bench.no("expired", "time", Kind.CLAIM, subject="a", time_ms=T0 + 10**6)
    bench.yes(Kind.CLAIM, subject="a")
    bench.no("expired", "time", Kind.FULFIL, subject="a", proof="p", attested=True, time_ms=T0 + 10**6)


def test_escrow_lock_release_void(bench: Bench) -> None:
    bench.fund(bench.alice, 100)
    of = {"debtor": bench.alice, "subject": "x"}
    bench.yes(Kind.LOCK, amount=60, expires_ms=T0 + 10**6, **of)
    assert bench.held(bench.alice) == (100, 60)
    bench.no("already_locked", "subject", Kind.LOCK, amount=1, **of)
    bench.no("insufficient_balance", "debtor", Kind.WITHDRAWAL, amount=41, debtor=bench.alice)
    bench.no("exceeds_lock", "amount", Kind.RELEASE, creditor=bench.shop, amount=61, **of)
    bench.no("expired", "time", Kind.RELEASE, creditor=bench.shop, time_ms=T0 + 10**6, **of)
    bench.no("not_expired", "time", Kind.LAPSE, **of)
    bench.no("other_party", "debtor", Kind.VOID, subject="x", debtor=bench.bob)
    bench.yes(Kind.RELEASE, creditor=bench.shop, amount=50, **of)
    assert (bench.held(bench.alice), bench.held(bench.shop)) == ((50, 0), (50, 0))
    assert bench.held(bench.alice, code=AccountCode.ESCROW) == (0, 0)
    bench.no("already_posted", "subject", Kind.VOID, **of)


@pytest.mark.parametrize("kind", [Kind.VOID, Kind.LAPSE])
def test_escrow_back_to_its_owner(bench: Bench, kind: Kind) -> None:
    bench.fund(bench.alice, 100)
    of = {"debtor": bench.alice, "subject": "x"}
    bench.yes(Kind.LOCK, amount=60, expires_ms=T0 + 10**6, **of)
    bench.yes(kind, time_ms=T0 + 10**6, **of)
    assert bench.held(bench.alice) == (100, 0)
    bench.no("already_voided", "subject", Kind.RELEASE, creditor=bench.shop, **of)


def test_settlement_is_reversed_once_and_whole(bench: Bench) -> None:
    bench.fund(bench.alice, 10)
    bench.yes(Kind.PAYMENT, amount=10, debtor=bench.alice, creditor=bench.shop)
    settled = bench.yes(Kind.SETTLE, amount=7, debtor=bench.shop)
    back = {"creditor": bench.shop, "reference": settled.name}
    bench.no("other_amount", "amount", Kind.REVERSE, amount=6, **back)
    bench.yes(Kind.REVERSE, **back)
    bench.no("already_reversed", "reference", Kind.REVERSE, **back)
    assert bench.held(bench.shop) == (10, 0)


def test_freeze_thaw_close(bench: Bench) -> None:
    bench.fund(bench.alice, 10)
    bench.fund(bench.bob, 10)
    pay = {"amount": 1, "debtor": bench.alice, "creditor": bench.bob}
    bench.yes(Kind.LOCK, amount=2, debtor=bench.alice, subject="x")
    bench.yes(Kind.FREEZE, debtor=bench.alice)
    bench.no("account_not_active", "debtor", Kind.FREEZE, debtor=bench.alice)
    bench.no("account_not_active", "debtor", Kind.PAYMENT, **pay)
    bench.no("account_not_active", "creditor", Kind.DEPOSIT, amount=1, creditor=bench.alice)
    bench.yes(Kind.VOID, debtor=bench.alice, subject="x")  # what was pending may go back
    bench.yes(Kind.THAW, debtor=bench.alice)
    bench.no("not_frozen", "debtor", Kind.THAW, debtor=bench.alice)
    bench.yes(Kind.PAYMENT, **pay)
    bench.no("not_empty", "debtor", Kind.CLOSE, debtor=bench.alice)
    bench.yes(Kind.WITHDRAWAL, amount=9, debtor=bench.alice)
    bench.yes(Kind.FREEZE, debtor=bench.alice)
    bench.yes(Kind.CLOSE, debtor=bench.alice)  # thawed and closed in one chain
    bench.no("account_closed", "debtor", Kind.THAW, debtor=bench.alice)
    bench.no("account_not_active", "creditor", Kind.DEPOSIT, amount=1, creditor=bench.alice)


def test_an_account_that_paid_into_an_open_position_is_not_closed(bench: Bench) -> None:
    """A position's money is in an escrow account by plain transfers: nothing of the payer's own account tells of it."""
    usd = [account("USD", bench.alice.code, party.owner) for party in (bench.alice, bench.bob)]
    bench.flows.open_accounts([Opening(bench.name(), T0, ref) for ref in usd])
    bench.yes(Kind.DEPOSIT, asset="USD", amount=5, creditor=bench.alice)
    escrows = [
        AccountRef("offchain/USD", int(AccountCode.ESCROW), bench.bob.owner, f"p{n}") for n in range(2)
    ]

    def moved(debit: AccountRef, credit: AccountRef, amount: int, code: TransferCode) -> None:
        bench.yes(Kind.POST, asset="", legs=(Leg(debit, credit, amount, int(code)),))

    def refused(detail: str) -> None:
        outcome = bench.do(Kind.CLOSE, asset="USD", debtor=bench.alice)
        assert outcome.refused is not None and outcome.refused[:2] == ("not_empty", "debtor")
        assert detail in outcome.refused.detail

    moved(usd[0], escrows[0], 2, TransferCode.ESCROW_LOCK)
    moved(usd[0], escrows[1], 3, TransferCode.ESCROW_LOCK)
    refused("in 2 open escrows")
    moved(escrows[0], usd[1], 2, TransferCode.ESCROW_RELEASE)
    refused("in 1 open escrows")
    bench.no("not_empty", "debtor", Kind.CLOSE, asset="USD", debtor=bench.bob)  # it holds what was released
    moved(escrows[1], usd[0], 3, TransferCode.ESCROW_VOID)
    bench.yes(Kind.WITHDRAWAL, asset="USD", amount=3, debtor=bench.alice)
    bench.yes(Kind.FREEZE, asset="USD", debtor=bench.alice)
    bench.yes(Kind.CLOSE, asset="USD", debtor=bench.alice)


def test_freeze_and_payment_in_one_batch_follow_their_order(bench: Bench) -> None:
    bench.fund(bench.alice, 10)
    pay = {"amount": 1, "debtor": bench.alice, "creditor": bench.bob}
    kinds = (Kind.PAYMENT, Kind.FREEZE, Kind.PAYMENT, Kind.THAW, Kind.PAYMENT)
    events = [bench.event(k, **(pay if k == Kind.PAYMENT else {"debtor": bench.alice})) for k in kinds]
    assert [o.accepted for o in bench.flows.apply(events)] == [True, True, False, True, True]


def _told(outcomes: Sequence[Outcome]) -> list[tuple[object, ...]]:
    """What must be the same on every store: ids, statuses, reasons; `refused_before` is the first refusal."""
    first: dict[str, object] = {}
    told = []
    for outcome in outcomes:
        name = str(outcome.event.name)
        reason = outcome.refused
        reason = first.setdefault(name, reason) if reason and reason.reason == "refused_before" else reason
        first.setdefault(name, reason)
        moves = () if outcome.plan is None else tuple((m.id, m.amount, m.status) for m in outcome.plan.moves)
        told.append((name, outcome.accepted, reason, moves))
    return told


def _state(flows: OffchainBooks, history: FlowHistory) -> dict[object, object]:
    """Balances and flags of all accounts of a history's own owners; an empty one is as good as none."""
    refs = [opening.account for opening in history.openings()]
    refs += [
        account(a, AccountCode.ESCROW, f"{history.prefix}u{n}") for a in ASSETS for n in range(history.users)
    ]
    rows = flows.store.accounts(refs).items()
    return {
        ref: (sums_of(row), row.flags)
        for ref, row in rows
        if row and (any(sums_of(row)) or row.flags & CLOSED)
    }


def _play(
    flows: OffchainBooks, history: FlowHistory, events: list[FlowEvent], cut: Callable[[], int]
) -> list[Outcome]:
    flows.open_accounts(history.openings())
    outcomes: list[Outcome] = []
    while len(outcomes) < len(events):
        outcomes += flows.apply(events[len(outcomes) :][: cut()])
    return outcomes


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_replay_gives_the_same_books(bench: Bench, tmp_path: Path, seed: int) -> None:
    """On this engine in batches of any size, on a fresh embedded one event by event; then all of it again."""
    history = FlowHistory(seed, prefix=f"{bench.tag}{seed}-")
    events = history.draw(1000)
    sizes = Random(seed)
    first = _play(bench.flows, history, events, lambda: sizes.randrange(1, 60))
    other = fresh(tmp_path / "other")
    second = _play(other, history, events, lambda: 1)
    assert _told(first) == _told(second)
    assert _state(bench.flows, history) == _state(other, history)
    assert {o.event.kind for o in first if o.accepted} >= set(Kind) - {Kind.CLOSE, Kind.POST}
    before = _state(bench.flows, history)
    again = _play(OffchainBooks(bench.books), history, events, lambda: 50)
    assert all(outcome.repeated for outcome in again)
    assert [o.accepted for o in again] == [o.accepted for o in first]
    assert _state(bench.flows, history) == before


@pytest.mark.parametrize("seed", [4, 5])
def test_recorded_decisions_are_followed_however_partitions_are_interleaved(
    tmp_path: Path, seed: int
) -> None:
    """Events shuffled across partitions; the audit log's decisions and their order give the same books."""
    history = FlowHistory(seed)
    events = list({event.name: event for event in history.draw(400)}.values())
    flows = fresh(tmp_path / "first")
    outcomes = _play(flows, history, events, lambda: 40)
    records = [record for outcome in outcomes for record in transfer_records(outcome)]
    Random(seed).shuffle(records)  # partitions of books.transfers.v1 come in any order
    decided = decisions(records)
    shuffled = events[:]
    Random(seed + 1).shuffle(shuffled)
    other = fresh(tmp_path / "other")
    other.open_accounts(history.openings())
    replayed = other.apply(in_decided_order(shuffled, decided), decided)
    assert _state(other, history) == _state(flows, history)
    facts = {o.event.name: (o.accepted, o.plan, o.refused) for o in outcomes}
    assert {o.event.name: (o.accepted, o.plan, o.refused) for o in replayed} == facts


def test_without_contention_any_interleaving_gives_the_same_books(tmp_path: Path) -> None:
    """Partitions by owner: each owner's events in their order, owners mixed at random."""
    states = []
    for seed in (1, 2, 3):
        history = FlowHistory(0)
        partitions: list[list[FlowEvent]] = []
        for number in range(history.users):
            user = Party(f"u{number}")
            partitions.append(
                [history.event(Kind.DEPOSIT, asset="SOVR", amount=50, creditor=user)]
                + [history.event(Kind.PAYMENT, asset="SOVR", amount=n, debtor=user,
                                 creditor=Party("m0", AccountCode.MERCHANT)) for n in range(1, 13)]
                + [history.event(Kind.FREEZE, asset="SOVR", debtor=user)]
            )  # fmt: skip
        mixed: list[FlowEvent] = []
        random = Random(seed)
        while rest := [p for p in partitions if p]:
            mixed.append(random.choice(rest).pop(0))
        flows = fresh(tmp_path / str(seed))
        outcomes = _play(flows, history, mixed, lambda r=random: r.randrange(1, 30))
        facts = sorted((str(o.event.name), o.accepted) for o in outcomes)
        assert not all(accepted for _, accepted in facts)
        states.append((_state(flows, history), facts))
    assert states[0] == states[1] == states[2]


def test_balances_fold_from_transfers_at_any_time(bench: Bench) -> None:
    bench.fund(bench.alice, 100)
    bench.yes(Kind.LOCK, amount=30, debtor=bench.alice, subject="x")
    locked_at = bench.clock
    bench.yes(Kind.RELEASE, debtor=bench.alice, creditor=bench.shop, amount=20, subject="x")
    key = ident(account("SOVR", AccountCode.USER, bench.alice.owner))
    rows = list(bench.flows.store.transfers_of(key))
    assert fold(key, rows, locked_at) == (30, 0, 0, 100)
    assert fold(key, rows, bench.clock) == (0, 20, 0, 100)
    assert fold(key, rows, T0) == (0, 0, 0, 0)
    marks = [row.timestamp for row in rows]
    assert [bench.flows.store.balance_at(key, mark) for mark in marks] == [
        (0, 0, 0, 100), (30, 0, 0, 100), (30, 0, 0, 100), (0, 20, 0, 100),
    ]  # fmt: skip


def test_nothing_ever_breaks_its_sign(bench: Bench) -> None:
    history = FlowHistory(9, prefix=f"{bench.tag}9-")
    _play(bench.flows, history, history.draw(300), lambda: 64)
    for ref, row in bench.flows.store.accounts([o.account for o in history.openings()]).items():
        assert row is not None and broken_sign(row) is None, ref

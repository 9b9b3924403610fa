"""The executor of flows: batches, decisions in the engine, engines that fail in the middle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.domain.account import AccountCode, AccountRef, TransferCode
from pipeline.domain.flows.accounts import account
from pipeline.domain.flows.events import EventName, FlowEvent, Kind, Leg, Party
from pipeline.domain.flows.outcome import Decision, Opening, Reason, account_records
from sinks import offchain
from sinks.books import BooksUnavailableError
from sinks.embedded_books import EmbeddedBooks
from sinks.offchain import OffchainBooks, waves
from sinks.offchain_store import BURNING, OffchainDefect

T0 = 1_800_000_000_000
ALICE, BOB = Party("alice"), Party("bob")


def event(kind: Kind, key: str, **fields: Any) -> FlowEvent:
    return FlowEvent(kind=kind, name=EventName("test", "t", key), **{"time_ms": T0, **fields})


def pay(key: str, amount: int = 1) -> FlowEvent:
    return event(Kind.PAYMENT, key, asset="SOVR", amount=amount, debtor=ALICE, creditor=BOB)


def deposit(key: str, amount: int = 10) -> FlowEvent:
    return event(Kind.DEPOSIT, key, asset="SOVR", amount=amount, creditor=ALICE)


OPENINGS = [
    Opening(EventName("test", "t", o.owner), T0, account("SOVR", o.code, o.owner)) for o in (ALICE, BOB)
]


@pytest.fixture
def books(tmp_path: Path) -> EmbeddedBooks:
    engine = EmbeddedBooks(tmp_path, sync=False)
    OffchainBooks(engine).open_accounts(OPENINGS)
    return engine


def test_a_batch_is_cut_where_an_event_depends_on_another() -> None:
    authorize = event(Kind.AUTHORIZE, "a", amount=1, debtor=ALICE, subject="s", anchor="FUEL")
    claim = event(Kind.CLAIM, "c", subject="s")
    refund = event(
        Kind.REFUND, "r", asset="SOVR", amount=1, debtor=BOB, creditor=ALICE, reference=pay("p").name
    )
    close = event(Kind.CLOSE, "x", asset="SOVR", debtor=ALICE)
    events = [deposit("d"), pay("p"), authorize, claim, pay("q"), pay("q"), refund, close]
    cut = [[one.name.key for one in wave] for wave in waves(events)]
    assert cut == [["d", "p", "a"], ["c", "q"], ["q", "r"], ["x"]]


def test_a_refusal_burns_the_events_id_in_the_engine(books: EmbeddedBooks) -> None:
    assert not OffchainBooks(books).apply([pay("p", amount=0)])[0].accepted
    results = OffchainBooks(books).store.burn([pay("p").name.transfer_id(0)])
    assert [result.name for result in results] == ["id_already_failed"]
    assert results[0].status in BURNING


def test_attempts_of_one_event_have_ids_of_their_own() -> None:
    name = EventName("s", "c", "k")
    ids = {name._replace(attempt=n).transfer_id(0) for n in range(3)}
    assert len(ids) == 3
    assert name.transfer_id(0) >> 127 == 1


def test_the_books_own_accounts_are_told_once_they_open(books: EmbeddedBooks) -> None:
    first, second = OffchainBooks(books).apply([deposit("d"), deposit("e")])
    assert [record["type"] for record in account_records(first)] == ["TREASURY"]
    assert account_records(second) == []
    resumed = OffchainBooks(books, again=True).apply([deposit("d2")])[0]
    assert [record["type"] for record in account_records(resumed)] == ["TREASURY"]


def test_accounts_without_number_are_not_all_remembered(
    books: EmbeddedBooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each position and each escrow has an account of its own; those forgotten are opened once more, and are there."""
    monkeypatch.setattr(offchain, "KNOWN_MAX", 5)
    book, treasury = OffchainBooks(books, again=True), account("SOVR", AccountCode.TREASURY)
    for number in range(20):
        of = AccountRef(treasury.asset, int(AccountCode.ESCROW), "alice", f"x{number % 8}")
        leg = Leg(treasury, of, 1, int(TransferCode.ESCROW_LOCK))
        assert book.apply([event(Kind.POST, f"e{number}", legs=(leg,))])[0].accepted
        assert len(book._known) <= 6
        row = book.store.accounts([of])[of]
        assert row is not None and row.credits_posted == number // 8 + 1


def test_the_proof_of_a_fulfilment_is_verified_by_the_given_hook(books: EmbeddedBooks) -> None:
    flows = OffchainBooks(books, attest=lambda one: one.proof == "good")
    flows.apply(
        [deposit("d"), event(Kind.AUTHORIZE, "a", amount=1, debtor=ALICE, subject="s", anchor="FUEL")]
    )
    flows.apply([event(Kind.CLAIM, "c", subject="s")])
    bad = flows.apply([event(Kind.FULFIL, "f", subject="s", proof="bad", attested=True)])[0]
    assert bad.refused is not None and bad.refused.reason == "not_attested"
    assert flows.apply([event(Kind.FULFIL, "g", subject="s", proof="good")])[0].accepted


def test_a_recorded_refusal_is_followed_without_being_judged(books: EmbeddedBooks) -> None:
    said = Reason("insufficient_balance", "debtor", "then")
    outcome = OffchainBooks(books).apply([deposit("d")], {"test:t:d": Decision(said, 0)})[0]
    assert outcome.refused == said
    assert not OffchainBooks(books).apply([deposit("d")])[0].accepted


def test_a_recorded_acceptance_that_cannot_be_is_a_defect(books: EmbeddedBooks) -> None:
    with pytest.raises(OffchainDefect, match="test:t:p was accepted"):
        OffchainBooks(books).apply([pay("p")], {"test:t:p": Decision(None, 1)})


class Failing:
    """An engine whose n-th call is lost: before its effect, or after it."""

    def __init__(self, books: EmbeddedBooks, fails_at: int, after: bool) -> None:
        self._books, self._left, self._after = books, fails_at, after

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._books, name)

        def call(packed: bytes) -> bytes:
            self._left -= 1
            if self._left == 0 and not self._after:
                raise BooksUnavailableError("lost")
            answer: bytes = method(packed)
            if self._left == 0:
                raise BooksUnavailableError("lost")
            return answer

        return call


@pytest.mark.parametrize("after", [False, True])
def test_cut_off_at_any_call_and_sent_again_the_books_are_the_same(tmp_path: Path, after: bool) -> None:
    events = [
        deposit("d"), pay("p"), pay("much", 100), pay("zero", 0),
        event(Kind.AUTHORIZE, "a", amount=3, debtor=ALICE, subject="s", anchor="FUEL"),
        event(Kind.CLAIM, "c", subject="s"), event(Kind.CLAIM, "c2", subject="s"),
        event(Kind.EXPIRE, "x", subject="s", creditor=ALICE),
    ]  # fmt: skip
    told: list[Any] = []
    for fails_at in range(60):
        engine = EmbeddedBooks(tmp_path / f"{fails_at}", sync=False)
        OffchainBooks(engine).open_accounts(OPENINGS)
        lost = False
        try:
            OffchainBooks(Failing(engine, fails_at, after)).apply(events)  # type: ignore[arg-type]
        except BooksUnavailableError:
            lost = True
        outcomes = OffchainBooks(engine).apply(events)
        refs = [account("SOVR", AccountCode.USER, "alice"), account("SOVR", AccountCode.ANCHOR, "FUEL")]
        rows = OffchainBooks(engine).store.accounts(refs)
        told.append(
            [(o.accepted, o.plan) for o in outcomes]
            + [row and (row.credits_posted, row.debits_posted) for row in rows.values()]
        )
        engine.close()
        if fails_at and not lost:
            break
    assert len(told) > 12
    assert all(one == told[0] for one in told)
    assert [accepted for accepted, _ in told[0][:8]] == [True, True, False, False, True, True, False, True]

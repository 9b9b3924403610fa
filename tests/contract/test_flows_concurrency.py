"""Many writers at once on one set of books: nobody overdraws, nothing is lost, one of two rivals wins.

The default run makes 10,000 transfers; with TIDEBOOK_LONG=1 it makes 100,000 as well. Both on a real cluster
too where there is one.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest
from flow_histories import T0
from test_books_engines import cluster  # noqa: F401

from pipeline.domain.account import AccountCode, AccountRef
from pipeline.domain.flows.accounts import account, broken_sign
from pipeline.domain.flows.events import EventName, FlowEvent, Kind, Party
from pipeline.domain.flows.outcome import Opening, Outcome, answer, refusal_alert, transfer_records
from sinks.books import Books
from sinks.embedded_books import EmbeddedBooks
from sinks.offchain import OffchainBooks

WRITERS = 4
LONG = bool(os.environ.get("TIDEBOOK_LONG"))


@pytest.fixture(params=["embedded", "cluster"])
def books(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Books]:
    if request.param == "cluster":
        yield request.getfixturevalue("cluster")
        return
    engine = EmbeddedBooks(tmp_path, sync=False)
    yield engine
    engine.close()


def _parties(tag: str) -> list[Party]:
    users = [Party(f"{tag}u{n}") for n in range(40)]
    return users + [Party(f"{tag}m{n}", AccountCode.MERCHANT) for n in range(10)]


def _open(books: Books, parties: list[Party]) -> None:
    name = EventName("test", "open", "all")
    OffchainBooks(books).open_accounts(
        [Opening(name, T0, account("USD", party.code, party.owner)) for party in parties]
    )


def _random_events(tag: str, writer: int, count: int, parties: list[Party]) -> list[FlowEvent]:
    random = Random(f"{tag}/{writer}")
    events = []
    for number in range(count):
        kind = random.choices([Kind.DEPOSIT, Kind.PAYMENT, Kind.WITHDRAWAL, Kind.FEE], [1, 8, 2, 1])[0]
        a, b = random.sample(parties, 2)
        sides = {"debtor": a, "creditor": b}
        if kind != Kind.PAYMENT:
            sides = {"creditor": b} if kind == Kind.DEPOSIT else {"debtor": a}
        events.append(
            FlowEvent(kind=kind, name=EventName("test", tag, f"{writer}/{number}"), time_ms=T0 + number,
                      asset="USD", amount=random.randrange(1, 100), **sides)
        )  # fmt: skip
    return events


def _write(books: Books, events: list[FlowEvent], batch: int) -> list[Outcome]:
    flows = OffchainBooks(books)
    outcomes: list[Outcome] = []
    for start in range(0, len(events), batch):
        outcomes += flows.apply(events[start : start + batch])
    return outcomes


def _run(books: Books, count: int, tag: str) -> Counter[str]:
    """`count` random transfers by WRITERS threads, each event sent by two of them."""
    parties = _parties(tag)
    _open(books, parties)
    parts = [_random_events(tag, writer, count // WRITERS, parties) for writer in range(WRITERS)]
    sent = [part + parts[(at + 1) % WRITERS][: count // 20] for at, part in enumerate(parts)]
    with ThreadPoolExecutor(WRITERS) as pool:
        told = list(pool.map(lambda events: _write(books, events, 97), sent))
    decided: dict[str, Outcome] = {}
    for outcome in (outcome for some in told for outcome in some):
        first = decided.setdefault(str(outcome.event.name), outcome)
        assert first.accepted == outcome.accepted, outcome.event
    assert len(decided) == sum(map(len, parts))
    _check(books, parties, list(decided.values()))
    return Counter("accepted" if outcome.accepted else "refused" for outcome in decided.values())


def _check(books: Books, parties: list[Party], outcomes: list[Outcome]) -> None:
    expected: Counter[AccountRef] = Counter()
    alerts = set()
    for outcome in outcomes:
        assert answer(outcome)["status"] in ("accepted", "refused")
        rows = [row for record in transfer_records(outcome) for row in record["transfers"]]
        assert {row["status"] for row in rows} == ({"posted"} if outcome.accepted else {"refused"})
        if not outcome.accepted:
            alerts.add(refusal_alert(outcome)["id"])
            continue
        assert outcome.plan is not None
        for move in outcome.plan.moves:
            expected[move.debit] -= move.amount
            expected[move.credit] += move.amount
    assert len(alerts) == sum(not outcome.accepted for outcome in outcomes)
    refs = [account("USD", party.code, party.owner) for party in parties]
    for ref, row in OffchainBooks(books).store.accounts(refs).items():
        assert row is not None and broken_sign(row) is None, ref
        assert row.credits_posted - row.debits_posted == expected[ref] >= 0, ref


def test_10_000_transfers_with_concurrent_writers(books: Books) -> None:
    counts = _run(books, 10_000, "short-")
    assert counts["accepted"] > 2000 and counts["refused"] > 200, counts


@pytest.mark.slow
@pytest.mark.skipif(not LONG, reason="100,000 transfers: set TIDEBOOK_LONG=1")
def test_100_000_transfers_with_concurrent_writers(books: Books) -> None:
    counts = _run(books, 100_000, "long-")
    print(counts)
    assert counts["accepted"] > 20_000 and counts["refused"] > 2000, counts


def test_of_rivals_for_one_authorization_at_most_one_wins(books: Books) -> None:
    """Claim against early expiry, then fulfilment against late expiry, by writers at once."""
    flows, tag = OffchainBooks(books), "rivals-"
    user = Party(f"{tag}u")
    flows.open_accounts([Opening(EventName("test", tag, "o"), T0, account("SOVR", user.code, user.owner))])

    def event(kind: Kind, key: str, **fields: object) -> FlowEvent:
        return FlowEvent(kind=kind, name=EventName("test", tag, key), time_ms=T0, **fields)  # type: ignore[arg-type]

    subjects = [f"{tag}{n}" for n in range(60)]
    flows.apply([event(Kind.DEPOSIT, "d", asset="SOVR", amount=600, creditor=user)])
    flows.apply(
        [event(Kind.AUTHORIZE, f"a{s}", amount=10, debtor=user, subject=s, anchor="FUEL") for s in subjects]
    )
    rivals = [
        [event(Kind.CLAIM, f"c{s}", subject=s) for s in subjects],
        [event(Kind.FULFIL, f"f{s}", subject=s, proof="p", attested=True) for s in subjects],
        [event(Kind.EXPIRE, f"x{s}", subject=s, creditor=user) for s in subjects[::-1]],
        [event(Kind.EXPIRE, f"y{s}", subject=s, creditor=user) for s in subjects],
    ]
    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(lambda events: _write(books, events, 7), rivals))
    ends = Counter(o.event.subject for some in told[1:] for o in some if o.accepted)
    assert set(ends.values()) <= {1}, "fulfilment and expiry exclude each other"
    # All authorizations share SYSTEM_BUFFER: an early expiry that a claim has just outrun may find the buffer
    # empty, and is then refused for want of balance. Its next attempt ends the authorization.
    late = [
        FlowEvent(
            kind=Kind.EXPIRE, name=EventName("test", tag, f"y{s}", 2), time_ms=T0, subject=s, creditor=user
        )
        for s in subjects
        if not ends[s]
    ]
    assert all(outcome.accepted for outcome in flows.apply(late))
    ref = account("SOVR", user.code, user.owner)
    row = flows.store.accounts([ref])[ref]
    fulfilled = sum(o.accepted for o in told[1])
    assert row is not None and row.credits_posted - row.debits_posted == 600 - 10 * fulfilled


def test_refunds_at_once_never_pass_the_payment(books: Books) -> None:
    tag = "refunds-"
    user, shop = Party(f"{tag}u"), Party(f"{tag}m", AccountCode.MERCHANT)
    _open(books, [user, shop])
    flows = OffchainBooks(books)

    def event(kind: Kind, key: str, **fields: object) -> FlowEvent:
        return FlowEvent(kind=kind, name=EventName("test", tag, key), time_ms=T0, asset="USD", **fields)  # type: ignore[arg-type]

    paid = event(Kind.PAYMENT, "p", amount=10, debtor=user, creditor=shop)
    flows.apply(
        [event(Kind.DEPOSIT, f"d{n}", amount=500, creditor=party) for n, party in enumerate((user, shop))]
    )
    flows.apply([paid])
    back = {"amount": 1, "debtor": shop, "creditor": user, "reference": paid.name}
    parts = [[event(Kind.REFUND, f"r{writer}/{n}", **back) for n in range(6)] for writer in range(4)]
    with ThreadPoolExecutor(4) as pool:
        told = [
            outcome for some in pool.map(lambda events: _write(books, events, 3), parts) for outcome in some
        ]
    assert sum(outcome.accepted for outcome in told) == 10
    assert {o.refused.reason for o in told if o.refused} == {"exceeds_payment"}

"""The continuous audit from one turn to the next: what was found stands until it is looked at again; two looks."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline import metrics_audit
from pipeline.agents import auditing as agent
from pipeline.agents.auditing import BREAK_S, Auditing, Every
from pipeline.domain.account import AccountCode
from pipeline.domain.audit import Range, Result, unlooked
from sinks import audit_books, audit_run
from sinks.audit_run import Asked, Told
from sinks.books import ACCOUNT_STRUCT, TRANSFER_STRUCT

A, B, TRANSFERS = (Range("e", topic, 0, 0, 9) for topic in ("a", "b", "books.transfers.v1"))


def of(where: Range, ok: bool, check: str = "rows", first: int = 3) -> Result:
    return Result(check, f"{where.topic} → t", "3", "3" if ok else "2", ok, first, first, where.epoch, 0)


class Turns:
    """An audit without a ClickHouse, which is told what it finds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[Asked] = []
        self.kept: list[Result] = []
        self.next = Told((), ())
        self.at = 0.0

        @contextmanager
        def asking(*_: Any) -> Iterator[Any]:
            yield lambda sql: iter(())

        def run(_ask: Any, _tables: Any, asked: Asked, *_: Any) -> Told:
            self.asked.append(asked)
            return self.next

        store = SimpleNamespace(open=lambda: None, keep=lambda told: self.kept.extend(told.results))
        nothing: Any = None
        monkeypatch.setattr(agent, "outgoing", lambda *_: None)
        monkeypatch.setattr(agent, "run", run)
        monkeypatch.setattr(agent, "asking", asking)
        monkeypatch.setattr(agent, "AuditStore", lambda _: store)
        self.auditing = Auditing(nothing, nothing, Every(60, 100), clock=lambda: self.at)

    def once(self, told: Told, whole: bool = False) -> tuple[float, float]:
        """Findings, and when all was well last, in turns; 0 before the first."""
        self.next, self.at = told, self.at + 1
        self.auditing.once(whole)
        findings = sum(
            metrics_audit.FINDINGS.labels(check)._value.get() for check in ("rows", "accounts", "legs")
        )
        return findings, metrics_audit.LAST_OK._value.get()


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> Turns:
    metrics_audit.LAST_OK.set(0)
    return Turns(monkeypatch)


def part(where: Range, ok: bool, *unbegun: Range, begin: str = "") -> Told:
    return Told((where,), (of(where, ok),), begin, bool(unbegun), {one.topic for one in unbegun})


@pytest.mark.parametrize("whole", [False, True])
def test_a_finding_stands_while_other_topics_have_their_turn(turns: Turns, whole: bool) -> None:
    assert turns.once(part(A, False, B, begin="b"), whole) == (1, 0)
    assert turns.once(part(B, True, A, begin="a"), whole) == (1, 0)
    assert turns.once(part(A, False, B, begin="b"), whole) == (1, 0)
    assert [one.scope for one in turns.kept if not one.ok] == ["a → t"]  # once
    assert turns.once(part(A, True, B, begin="b"), whole) == (0, 0)  # all is well, but b was not looked at
    assert turns.once(Told((A, B), (of(A, True), of(B, True))), whole) == (0, 5)


def test_what_everything_found_is_not_forgotten_for_what_is_new(turns: Turns) -> None:
    turns.once(part(A, False), True)
    assert turns.once(Told((A._replace(first=10, last=19),), ())) == (1, 0)
    assert turns.once(part(A, True), True) == (0, 3)


def test_what_is_new_is_mended_where_everything_is_sound(turns: Turns) -> None:
    assert turns.once(part(A, False)) == (1, 0)
    assert turns.once(part(A, False), True) == (1, 0)  # the same is counted once
    assert turns.once(part(A, True), True) == (0, 3)
    assert turns.once(part(A, False)) == (1, 3)
    assert turns.once(Told((), ())) == (0, 5)  # another audit found it sound, it is new no more


def test_a_question_without_an_answer_mends_nothing(turns: Turns) -> None:
    turns.once(part(A, False))
    assert turns.once(Told((A,), (unlooked("rows", "a", "too long"),))) == (1, 0)
    account = Result("accounts", "x:1 XRP USER u", "-0 +9", "-0 +2", False)
    turns.once(Told((), (account,)), True)
    for why in (unlooked("accounts", "books", "nobody answers"), replace(account, ok=None)):
        assert turns.once(Told((), (why,)), True)[0] == 1
    assert turns.once(Told((), ()), True)[0] == 0


def test_a_view_that_is_not_looked_at_says_nothing_of_a_topic() -> None:
    """The view `positions` begins like the topic positions.events.v1."""
    where = Range("e", "positions.events.v1", 0, 0, 9)
    told = Told((where,), (unlooked("views", "positions", "another release made it"),))
    assert told.looked_at(of(where, False))
    assert not told.looked_at(Result("views", "positions", "this release's", "another view", False))
    assert told.looked_at(Result("views", "gas_daily", "this release's", "another view", False))


def test_a_cut_range_mends_nothing_beyond_it(turns: Turns) -> None:
    turns.once(part(A, False))
    assert turns.once(Told((A._replace(last=2),), (), left=True)) == (1, 0)


def test_behind_a_fault_nothing_is_cut(turns: Turns) -> None:
    """Else what is committed later would not be looked at as long as the fault stands."""
    turns.once(Told((A, B, TRANSFERS), (of(A, False), unlooked("legs", TRANSFERS.topic, "nobody answers"))))
    turns.once(Told((A,), (unlooked("rows", "a", "too long"),), unbegun={TRANSFERS.topic}))
    turns.once(part(A, True, TRANSFERS))
    turns.once(Told((TRANSFERS,), ()))
    turns.once(Told((), ()))
    assert [asked.uncut for asked in turns.asked] == [
        set(), {"a", TRANSFERS.topic}, {TRANSFERS.topic}, {TRANSFERS.topic}, set()
    ]  # fmt: skip


def test_the_rest_of_everything_is_due_at_once(turns: Turns, monkeypatch: pytest.MonkeyPatch) -> None:
    """In turn with what is new."""
    told, now, pauses = [], [0.0], []
    rests = iter(["b", "c", "", ""])

    def once(whole: bool) -> Told:
        told.append(whole)
        now[0] += 60
        if whole:
            turns.auditing._whole.begin = next(rests)
        return Told((), (), left=bool(whole and turns.auditing._whole.begin))

    def wait(pause: float) -> bool:
        pauses.append(pause)
        return len(told) == 10

    monkeypatch.setattr(agent, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(turns.auditing, "once", once)
    monkeypatch.setattr(turns.auditing, "_stop", SimpleNamespace(wait=wait))
    turns.auditing._run()
    assert told == [False, False, True, False, True, False, True, False, False, True]
    assert pauses[3] == BREAK_S and pauses[4] == 60


def test_damage_to_what_moves_is_found_and_what_only_moved_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_run, "STEADY_S", 0)

    def account(name: str, there: int, here: int) -> Result:
        evidence = {"difference": {"credits": str(there - here)}}
        return Result("accounts", name, f"-0 +{there}", f"-0 +{here}", here == there, evidence=evidence)

    looks = iter([
        [account("damaged", 100, 93), account("late", 50, 48), account("caught up", 8, 3)],
        [account("damaged", 170, 163), account("late", 70, 69), account("caught up", 9, 9), account("new", 4, 1)],
    ])  # fmt: skip
    told = audit_run._steady(lambda: next(looks), True)
    assert {one.scope: one.ok for one in told} == {
        "damaged": False,
        "late": None,
        "caught up": True,
        "new": None,
    }
    assert {one.evidence["why"] for one in told if one.ok is None} == {audit_run.MOVED}


def test_accounts_on_their_way_do_not_end_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of those that the history knows nothing of; each kind is told so many times."""
    monkeypatch.setattr(audit_books, "SHOWN", 2)
    way, lost = range(1, 6), range(6, 10)

    def query_accounts_packed(_: bytes) -> bytes:
        blank = bytes(16)
        return b"".join(
            ACCOUNT_STRUCT.pack(
                ident.to_bytes(16, "little"), blank, b"\1" + bytes(15), blank, blank, blank, 0, 0, 0, 1,
                AccountCode.HOLDER, 0, ident,
            )
            for ident in (*way, *lost)
        )  # fmt: skip

    def get_account_transfers_packed(asked: bytes) -> bytes:
        ident, one = asked[:16], b"\1" + bytes(15)
        return TRANSFER_STRUCT.pack(ident, ident, ident, one, bytes(16), bytes(16), 0, 0, 0, 1, 1, 0, 1)

    books: Any = SimpleNamespace(
        query_accounts_packed=query_accounts_packed, get_account_transfers_packed=get_account_transfers_packed
    )
    horizon: Any = SimpleNamespace(all_beyond=lambda rows: rows[0][0][0] in way)
    told = [(int(one.scope.split()[-1], 16), one.ok) for one in audit_books._unknown(books, set(), horizon)]
    assert told == [(1, None), (2, None), (6, False), (7, False)]
    assert "start" not in audit_books.BEHIND  # the role that is to be started is the one that audits

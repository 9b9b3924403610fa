"""The audit's pure rules: what is gapless, what is explained, what contradicts itself."""

import random

import pytest

from pipeline.domain.audit import (
    CHECKS,
    Change,
    Commit,
    Range,
    Result,
    change_fault,
    findings,
    judge_offsets,
    judge_quarantine,
)
from sinks.audit import sound_to

WHERE = Range("e", "t", 0, 0, 29)


def judged(*commits: Commit, dense: bool = True, begins: int = 0) -> list[tuple[str, int, int]]:
    """What is wrong: what, first, last."""
    found = findings(judge_offsets(WHERE, commits, dense, begins))
    return [(str(one.evidence["what"]).partition(":")[0], one.first, one.last) for one in found]


LOST, TWO = "offsets in no commit", "offsets in two commits"
UNTOLD = "offsets of the commit that are neither applied, duplicates nor refused"


@pytest.mark.parametrize(
    ("commits", "wrong"),
    [
        ([Commit(0, 9, 10, 0, 0), Commit(10, 29, 18, 1, 1)], []),
        ([Commit(0, 9, 10, 0, 0), Commit(12, 29, 18, 0, 0)], [(LOST, 10, 11)]),
        ([Commit(3, 29, 27, 0, 0)], [(LOST, 0, 2)]),
        ([Commit(0, 9, 10, 0, 0), Commit(8, 29, 22, 0, 0)], [(TWO, 8, 9)]),
        ([Commit(0, 29, 29, 0, 0)], [(UNTOLD, 0, 29)]),
        ([Commit(0, 29, 31, 0, 0)], [(UNTOLD, 0, 29)]),
        ([Commit(0, 29, 28, 4, 0)], []),  # two were delivered again
        ([Commit(0, 29, 31, 0, 1)], [(UNTOLD, 0, 29)]),
    ],
)
def test_offsets(commits: list[Commit], wrong: list[tuple[str, int, int]]) -> None:
    assert judged(*commits) == wrong


def test_a_compacted_topic_has_holes() -> None:
    assert judged(Commit(4, 9, 2, 0, 0), Commit(20, 29, 9, 0, 0), dense=False) == []
    assert judged(Commit(0, 9, 11, 0, 0), dense=False) != []


def test_any_lost_commit_of_a_sound_line_is_told() -> None:
    made = random.Random(20261121)
    for _ in range(200):
        cuts = sorted(made.sample(range(1, 200), made.randrange(2, 9)))
        commits = [Commit(a, b - 1, b - a, 0, 0) for a, b in zip([0, *cuts], [*cuts, 200], strict=True)]
        assert judged(*commits) == []
        gone = made.randrange(len(commits) - 1)
        lost = commits.pop(gone)
        assert judged(*commits) == [(LOST, lost.first, lost.last)]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (Change("0", "5", "5", None, "5"), ""),
        (Change("5", "-5", "0", "5", "-5"), ""),
        (Change("1E-81", "999.999999", "999.999999" + "0" * 74 + "1", "0." + "0" * 80 + "1", None), ""),
        (Change("5", "1", "7", "5", "1"), "previous + change is not balance"),
        (Change("5", "1", "6", "4", "1"), "previous is not the balance that the change before it left"),
        (Change("5", "1", "6", "5", "1.1"), "change_value is not change"),
        (Change("9" * 90, "1", "1" + "0" * 90, None, None), ""),
        (Change("9" * 90, "2", "1" + "0" * 90, None, None), "previous + change is not balance"),
    ],
)
def test_changes_are_exact(change: Change, fault: str) -> None:
    assert change_fault(change) == fault


@pytest.mark.parametrize(
    ("refused", "held", "ok"),
    [
        ({"a": 2}, {"a": 2}, True),
        ({"a": 2}, {"a": 1}, False),
        ({}, {"a": 1}, False),
        ({"a": 2, "b": 2}, {"a": 2}, True),  # the same ones again
        ({"a": 2, "b": 3}, {"a": 2}, False),
        ({"a": 2, "b": 1}, {"a": 2, "b": 2}, False),
    ],
)
def test_quarantine(refused: dict[str, int], held: dict[str, int], ok: bool) -> None:
    assert judge_quarantine("t", 0, refused, refused, held).ok is ok


def test_a_refused_message_may_be_on_its_way_to_quarantine() -> None:
    assert judge_quarantine("t", 0, {"a": 1}, {"a": 2}, {"a": 1}).ok is True
    assert judge_quarantine("t", 0, {"a": 2}, {"a": 2}, {"a": 1}).ok is False


def test_sound_up_to_before_the_first_finding() -> None:
    wrong = Result("rows", "t → table", "2", "1", False, 12, 15, "e", 0)
    other = Result("rows", "u → table", "2", "1", False, 3, 5, "e", 0)
    assert sound_to([WHERE], [wrong, other]) == {("e", "t", 0): 11}
    assert sound_to([WHERE], [Result("rows", "t", "", "", None)]) == {("e", "t", 0): -1}
    assert sound_to([WHERE], [Result("rows", "t", "1", "1", True, 0, 29, "e", 0)]) == {("e", "t", 0): 29}


@pytest.mark.parametrize(
    ("check", "scope", "held"),
    [
        ("blocks", "eip155:1", {"evm.blocks.v1"}),
        ("balances", "xrpl:main", {"xrpl.ledgers.v1"}),
        ("blocks", "chains", {"evm.blocks.v1", "xrpl.ledgers.v1"}),
        ("legs", "eip155:1", {"books.transfers.v1"}),
        ("rollups", "evm.blocks.v1 → gas_sums", {"evm.blocks.v1"}),
        ("rollups", "evm.blocks.v1 → gas_sums 100 0xab 2024-01-01", {"evm.blocks.v1"}),
        ("quarantine", "xrpl.ledgers.v1", {"xrpl.ledgers.v1"}),
        ("twice", "xrpl.ledgers.v1 → gas_sums", {"xrpl.ledgers.v1"}),
    ],
)
@pytest.mark.parametrize("ok", [False, None])
def test_what_no_commit_is_named_by_holds_its_topics_back(
    check: str, scope: str, held: set[str], ok: bool | None
) -> None:
    """Else it would be told once, and the next audit would begin behind it and find nothing."""
    ranges = [
        Range("e", topic, 0, 5, 9) for topic in ("evm.blocks.v1", "xrpl.ledgers.v1", "books.transfers.v1")
    ]
    place = {"first": 7, "last": 7, "epoch": "e", "partition": 0} if check == "twice" else {}
    ends = sound_to(ranges, [Result(check, scope, "1", "2", ok, **place)])  # type: ignore[arg-type]
    assert {topic for (_, topic, _), end in ends.items() if end == 4} == held
    assert {topic for (_, topic, _), end in ends.items() if end == 9} == {one.topic for one in ranges} - held


def test_every_check_says_what_to_do() -> None:
    assert all(check.demands and check.mend for check in CHECKS.values())

"""The stack of blocks that messages make: what comes next, what came before, what is out of line."""

from __future__ import annotations

import random

import pytest

from pipeline.domain.branch import Branch, OutOfLine, Step, short


def head(number: int, branch: str = "a", parent: str | None = None, incarnation: int = 0) -> Step:
    return Step(
        number, _hash(number, branch), _hash(number - 1, parent or branch), "head", incarnation, run=1
    )


def _hash(number: int, branch: str) -> str:
    return f"0x{branch}{number:015x}" + "0" * 48


def final(number: int, branch: str = "a", incarnation: int = 0) -> Step:
    return head(number, branch)._replace(finality="final", incarnation=incarnation)


def retracted(number: int, branch: str = "a", incarnation: int = 0) -> Step:
    return head(number, branch)._replace(finality="retracted", incarnation=incarnation)


def fed(*steps: Step) -> Branch:
    branch = Branch()
    for step in steps:
        branch.judge(step)
        branch.take(step)
    return branch


def test_a_branch_goes_away_and_comes_back() -> None:
    branch = fed(head(1), head(2), head(3), retracted(3), retracted(2), head(2, "b", "a"), final(1))
    assert branch.final == (1, short(_hash(1, "a")))
    assert branch.tip == (2, short(_hash(2, "b")))
    assert branch.incarnation(2, _hash(2, "a")) == 1
    assert branch.incarnation(3, _hash(3, "a")) == 1
    assert branch.incarnation(2, _hash(2, "b")) == 1
    assert branch.incarnation(1, _hash(1, "a")) == 0, "nothing comes back below what is final"
    for step in (retracted(2, "b"), head(2, "a", incarnation=1), final(2, "a", 1)):
        branch.judge(step)
        branch.take(step)
    assert branch.final == branch.tip == (2, short(_hash(2, "a")))


@pytest.mark.parametrize(
    ("before", "step", "reason"),
    [
        ([head(1)], head(3), "hole"),
        ([head(1)], head(2, "b"), "fork"),
        ([head(1), head(2)], head(2, "b", "a"), "fork"),
        ([head(1), head(2)], retracted(1), "order"),
        ([head(1), head(2)], final(2), "order"),
        ([head(1)], final(1, incarnation=1), "order"),
        ([final(1)], retracted(1), "order"),
        ([final(1)], final(3), "hole"),
        ([final(1)], final(1, "b"), "fork"),
        ([], head(5), "hole"),
        ([head(1)._replace(chunks=2)], head(2), "hole"),
        ([], head(1)._replace(chunk=1, chunks=2), "hole"),
    ],
)
def test_what_does_not_come_next_is_told(before: list[Step], step: Step, reason: str) -> None:
    branch = fed(*before)
    with pytest.raises(OutOfLine) as error:
        branch.judge(step)
    assert error.value.reason == reason


def test_a_head_cut_off_in_its_chunks_can_be_taken_back() -> None:
    branch = fed(head(1), head(2)._replace(chunks=3), head(2)._replace(chunk=1, chunks=3))
    assert not branch.unfinal[-1].whole
    for chunk in (0, 1):
        step = retracted(2)._replace(chunk=chunk, chunks=2)
        branch.judge(step)
        branch.take(step)
    assert branch.tip == (1, short(_hash(1, "a")))
    branch.judge(head(2, incarnation=1))


@pytest.mark.parametrize("seed", range(20))
def test_any_cut_of_any_history_with_duplicates_leaves_the_same_branch(seed: int) -> None:
    draw = random.Random(seed)
    branch, steps, names = Branch(), [], iter(range(10**6))
    hashes: dict[int, list[str]] = {}
    for _ in range(200):
        tip = branch.tip or (0, _hash(0, "a"))
        choice = draw.random()
        if choice < 0.25 and branch.unfinal:
            top = branch.unfinal[-1]
            step = Step(top.number, top.hash, None, "retracted", top.incarnation, run=1)
        elif choice < 0.4 and len(branch.unfinal) > 3:
            low = branch.unfinal[0]
            step = Step(low.number, low.hash, None, "final", low.incarnation, run=1)
        else:
            known = hashes.setdefault(tip[0] + 1, [])
            if not known or draw.random() < 0.5:
                known.append(f"{next(names):016x}")
            block = draw.choice(known)
            step = Step(tip[0] + 1, block, tip[1], "head", branch.incarnation(tip[0] + 1, block), run=1)
        branch.judge(step)
        branch.take(step)
        steps.append(step)
    doubled = [step for step in steps for _ in range(draw.choice((1, 1, 2)))]
    again = Branch.of(doubled)
    assert (again.final, again.unfinal) == (branch.final, branch.unfinal)
    assert all(again.incarnation(n, h) == branch.incarnation(n, h) for n, of in hashes.items() for h in of)

"""Which blocks of a chain stand, as its messages tell it: final ones below, unfinal ones on top. Pure.

A chain that may reorganise is told by three kinds of message: `head` puts a block on top, `retracted` takes the
topmost off again, `final` says of the lowest unfinal one that it stays; a block that was final before it was ever
told comes as `final` alone. Every role that applies such messages keeps a Branch: `judge` says whether a message
comes next, `take` notes it. A message may come twice (`seen`); one that neither comes next nor was seen is out of
line, and nothing may be booked on it. docs/decisions/0010.

A block is a hash here, of which the first 64 bits are kept; `incarnation` tells its appearances apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

Finality = Literal["head", "final", "retracted"]
KEPT_BELOW: Final = (
    1024  # more than any batch; blocks below the last final one whose messages are known again
)


class OutOfLine(ValueError):
    """A message that does not come next; `reason`: hole, fork or order."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Step(NamedTuple):
    """One message of a chain, without what the block did."""

    number: int
    hash: str  # with or without 0x; 16 hex digits are enough
    parent: str | None  # None: not told
    finality: Finality
    incarnation: int
    chunk: int = 0
    chunks: int = 1
    run: int = -1

    @property
    def name(self) -> tuple[str, int, str, int]:
        """What names the message for ever."""
        return short(self.hash), self.incarnation, self.finality, self.chunk


def short(block_hash: str) -> str:
    """First 64 bits of a hash, lower-case hex without 0x."""
    return block_hash.removeprefix("0x")[:16].lower()


def step_of(block: Any) -> Step:
    """The step that a record of evm.blocks.v1 is."""
    return Step(
        block["block_number"], block["block_hash"], block["parent_hash"], block["finality"],
        block["incarnation"], block["chunk"], block["chunks"], block["run"],
    )  # fmt: skip


@dataclass(slots=True)
class Standing:
    """An unfinal block that stands. `told` of its `chunks` have come."""

    number: int
    hash: str
    incarnation: int
    told: int
    chunks: int

    @property
    def whole(self) -> bool:
        return self.told == self.chunks


@dataclass(slots=True)
class Branch:
    """The blocks of one chain that stand. `final`: (number, hash) of the last final one, None before the first."""

    final: tuple[int, str] | None = None
    unfinal: list[Standing] = field(default_factory=list)
    open: Step | None = None  # the last chunk told of a message that lacks some
    highest: int = -1  # block number ever told
    _names: dict[int, set[tuple[str, int, str, int]]] = field(default_factory=dict)
    _heads: dict[int, Counter[str]] = field(default_factory=dict)
    _lowest: int = -1  # number below which nothing is remembered

    @classmethod
    def of(cls, steps: Iterable[Step]) -> Branch:
        """The branch that messages of a chain leave, given in order; they need not begin at its start."""
        branch = cls()
        for step in steps:
            if not branch.seen(step):
                branch.take(step)
        return branch

    @property
    def tip(self) -> tuple[int, str] | None:
        """(number, hash) of the topmost block."""
        if self.unfinal:
            return self.unfinal[-1].number, self.unfinal[-1].hash
        return self.final

    def hash_at(self, number: int) -> str | None:
        """Hash of an unfinal block or of the last final one; None for others."""
        if self.final is not None and number == self.final[0]:
            return self.final[1]
        return next((one.hash for one in self.unfinal if one.number == number), None)

    def incarnation(self, number: int, block_hash: str) -> int:
        """How often this very block was told as head before."""
        return self._heads.get(number, Counter())[short(block_hash)]

    def seen(self, step: Step) -> bool:
        """Has this very message come before? Only the newest are known."""
        return step.name in self._names.get(step.number, ())

    def judge(self, step: Step) -> None:
        """Raise OutOfLine unless the message comes next."""
        if self.open is not None and not self._goes_on(self.open, step):
            raise OutOfLine("hole", f"{_told(step)} in the midst of {_told(self.open)}")
        if self.open is not None:
            return
        if step.chunk:
            raise OutOfLine("hole", f"{_told(step)} without the chunks before it")
        if step.finality == "head":
            self._follows(step, self.tip)
        elif step.finality == "retracted":
            self._is(step, self.unfinal[-1:])
        elif self.unfinal:
            self._is(step, self.unfinal[:1])
        else:
            self._follows(step, self.final)

    @staticmethod
    def _goes_on(open_: Step, step: Step) -> bool:
        if step.name == (*open_.name[:3], open_.chunk + 1):
            return True  # or the block was lost before all of it was told:
        undone = open_.finality == "head" and step.finality == "retracted" and step.chunk == 0
        return undone and step.name[:2] == open_.name[:2]

    @staticmethod
    def _follows(step: Step, last: tuple[int, str] | None) -> None:
        begins = step.run == step.number
        if last is None:
            if not begins:
                raise OutOfLine("hole", f"{_told(step)} follows nothing; its run begins at {step.run}")
            return
        number, block_hash = last
        if step.number != number + 1 and not (begins and step.number > number):
            raise OutOfLine(
                "hole" if step.number > number else "fork", f"{_told(step)} does not follow {number}"
            )
        if step.number == number + 1 and step.parent is not None and short(step.parent) != block_hash:
            raise OutOfLine("fork", f"{_told(step)} has another parent than block {number}")

    @staticmethod
    def _is(step: Step, due: list[Standing]) -> None:
        if not due:
            raise OutOfLine("order", f"{_told(step)}, and no block is unfinal")
        if (due[0].number, due[0].hash, due[0].incarnation) != (
            step.number,
            short(step.hash),
            step.incarnation,
        ):
            raise OutOfLine("order", f"{_told(step)}, where block {due[0].number} {due[0].hash} is due")

    def take(self, step: Step) -> None:
        """Note a message that came next."""
        self._names.setdefault(step.number, set()).add(step.name)
        self.highest = max(self.highest, step.number)
        if self._lowest < 0:
            self._lowest = step.number
        last = step.chunk == step.chunks - 1
        if step.finality == "head":
            self._head(step)
        elif last:
            self._drop(step)
            if step.finality == "final":
                self._made_final(step)
        self.open = None if last else step

    def _head(self, step: Step) -> None:
        if self.unfinal and self._same(self.unfinal[-1], step):
            self.unfinal[-1].told = step.chunk + 1
            return
        self._heads.setdefault(step.number, Counter())[short(step.hash)] += 1
        self.unfinal.append(
            Standing(step.number, short(step.hash), step.incarnation, step.chunk + 1, step.chunks)
        )

    @staticmethod
    def _same(one: Standing, step: Step) -> bool:
        return (one.number, one.hash, one.incarnation) == (step.number, short(step.hash), step.incarnation)

    def _drop(self, step: Step) -> None:
        """The block is no longer among the unfinal ones: it is the lowest or the topmost, as a rule."""
        for place in (0, -1):
            if self.unfinal and self._same(self.unfinal[place], step):
                del self.unfinal[place]
                return
        self.unfinal = [one for one in self.unfinal if not self._same(one, step)]

    def _made_final(self, step: Step) -> None:
        before = self.final[0] if self.final is not None else self._lowest - 1
        self.final = step.number, short(step.hash)
        _forget(self._heads, before + 1, step.number)
        _forget(self._names, self._lowest, step.number - KEPT_BELOW - 1)
        self._lowest = max(self._lowest, step.number - KEPT_BELOW)


def _forget(table: dict[int, Any], first: int, last: int) -> None:
    """Drop the keys first..last, in the time that the fewer of keys and numbers take."""
    numbers = range(first, last + 1) if last - first < len(table) else [n for n in table if n <= last]
    for number in numbers:
        table.pop(number, None)


def _told(step: Step) -> str:
    chunk = f" chunk {step.chunk} of {step.chunks}" if step.chunks > 1 else ""
    return f"block {step.number} {short(step.hash)} {step.finality} ({step.incarnation}){chunk}"

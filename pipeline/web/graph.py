"""The graph of ownership: owners one below another in the order they first appear, hand-overs as arcs between them.

Arcs stand to the left of the names, those that go back up dashed, each with the number of its row in the table beneath.
Pure geometry in SVG units; the template draws it. Where an asset came from and where it ended are nodes as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

NODES_MAX: Final = 40
ROW: Final = 52  # from node to node
TOP: Final = 30
REACH: Final = 200  # how far an arc may go to the left of the nodes
NAME: Final = 340  # room for a name to their right
START: Final = ""  # where what is new comes from
END: Final = "\0"  # where what is burnt goes


@dataclass(frozen=True, slots=True)
class HandOver:
    """From an owner (or START) to an owner (or END). `kind` is a word of the style sheet, `what` says what moved."""

    source: str
    target: str
    kind: str
    what: str = ""


@dataclass(frozen=True, slots=True)
class Node:
    """`kind`: owner, container, start or end; `now`: holds it still."""

    name: str
    kind: str
    y: int
    now: bool


@dataclass(frozen=True, slots=True)
class Arc:
    """`path` is the SVG path from the nodes at x = 0, (x, y) the place of its number, `back`: it goes up."""

    number: int
    path: str
    x: int
    y: int
    kind: str
    back: bool
    far: int


@dataclass(frozen=True, slots=True)
class Graph:
    """What is drawn; `left_out` hand-overs are in the table alone."""

    nodes: tuple[Node, ...]
    arcs: tuple[Arc, ...]
    height: int
    left_out: int
    axis: int  # x of the nodes

    @property
    def width(self) -> int:
        return self.axis + NAME


def graph(moves: Sequence[HandOver], now: Iterable[str] = (), containers: Iterable[str] = ()) -> Graph:
    """The graph of hand-overs in their order; `now`: who holds it at the end, `containers`: owners that are packs."""
    places: dict[str, int] = {}
    for move in moves:
        for name in (move.source, move.target):
            if len(places) < NODES_MAX:
                places.setdefault(name, len(places))
    holds, packs = set(now), set(containers)
    nodes = tuple(
        Node(name, _kind(name, packs), TOP + ROW * place, name in holds) for name, place in places.items()
    )
    between: Counter[tuple[int, int]] = Counter()
    arcs = []
    for number, move in enumerate(moves, 1):
        if move.source in places and move.target in places:
            first, last = places[move.source], places[move.target]
            arcs.append(_arc(number, first, last, between[min(first, last), max(first, last)], move.kind))
            between[min(first, last), max(first, last)] += 1
    reach = max((arc.far for arc in arcs), default=0)
    return Graph(
        nodes,
        tuple(arcs),
        TOP * 2 + ROW * max(0, len(nodes) - 1),
        len(moves) - len(arcs),
        26 + reach * 3 // 4,
    )


def _kind(name: str, packs: set[str]) -> str:
    if name in (START, END):
        return "start" if name == START else "end"
    return "container" if name in packs else "owner"


def _arc(number: int, first: int, last: int, again: int, kind: str) -> Arc:
    """An arc from row to row, the `again`-th between these two."""
    start, end = TOP + ROW * first, TOP + ROW * last
    if first == last:
        far = 40 + 22 * again
        path = f"M-9 {start - 5} C-{far} {start - 24} -{far} {start + 24} -13 {start + 7}"
        return Arc(number, path, -far * 3 // 4, start, kind, False, far)
    sign = 1 if end > start else -1
    far = min(REACH, 40 + 22 * (abs(last - first) - 1) + 28 * again)
    path = f"M-9 {start + 4 * sign} C-{far} {start + 4 * sign} -{far} {end - 6 * sign} -13 {end - 6 * sign}"
    return Arc(number, path, -far * 3 // 4 - 2, (start + end) // 2, kind, sign < 0, far)

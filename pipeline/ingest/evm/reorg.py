"""Has the chain dropped blocks that we told? What the nodes' headers say, and whom to believe.

A node's picture is its chain of headers from its newest block (or our tip's height) down to a block that is ours:
every hash recomputed, each header the parent of the one above. A picture counts when the node gives the same one
twice, and when more nodes have that chain at the contested height than have ours. A node that is behind has no
say. A tie changes nothing: it ends when the chain does.
"""

from __future__ import annotations

import asyncio
from typing import Final, NamedTuple

from pipeline.domain.branch import Branch, short
from pipeline.ingest.evm.errors import NodeError
from pipeline.ingest.evm.node import Node
from pipeline.ingest.evm.nodes import Nodes

AGAIN_S: Final = 0.05


class TooDeep(Exception):
    """The nodes' chain parts from ours below what may be taken back."""


class Fork(NamedTuple):
    """`number`: the newest block that both have; `hash`: of the nodes' block above it, "" where there is none."""

    number: int
    hash: str


async def find_fork(nodes: Nodes, branch: Branch, lowest: int) -> Fork | None:
    """Where the nodes' chain parts from ours; None if ours stands, or if they do not agree.

    Raises TooDeep where most nodes have another block even at `lowest`.
    """
    if branch.tip is None:
        return None
    pictures = await asyncio.gather(*(_picture(nodes, node, branch, lowest) for node in nodes.candidates()))
    away = [
        picture for picture in pictures if picture is not None and picture.number < (branch.tip or (0, ""))[0]
    ]
    parted = [picture for picture in away if picture.hash]
    if not parted:
        return None
    fork = max(parted, key=lambda one: sum(other == one for other in parted))
    if fork.number < lowest:
        others, ours = await _votes(nodes, branch, lowest, None)
        if others <= ours:
            return None
        raise TooDeep(
            f"the nodes' chain parts from ours below block {lowest}, at a depth that may not be taken back"
        )
    others, ours = await _votes(nodes, branch, fork.number + 1, fork.hash)
    return fork if others > ours else None


async def _votes(nodes: Nodes, branch: Branch, number: int, block_hash: str | None) -> tuple[int, int]:
    """(nodes that have that block, or any but ours; nodes that have ours) at a height."""
    ours = branch.hash_at(number)
    hashes = [found for found in (await nodes.hashes_at(number)).values() if found]
    same = sum(short(found) == ours for found in hashes)
    others = sum(short(found) != ours and block_hash in (None, found) for found in hashes)
    return others, same


async def _picture(nodes: Nodes, node: Node, branch: Branch, lowest: int) -> Fork | None:
    """A node's fork, if it gives the same one twice; None if it gives none."""
    try:
        first = await _walk(nodes, node, branch, lowest)
        if first is None or not first.hash:
            return first
        await asyncio.sleep(AGAIN_S)
        return first if await _walk(nodes, node, branch, lowest) == first else None
    except NodeError as error:
        node.failed(error)
        return None


async def _walk(nodes: Nodes, node: Node, branch: Branch, lowest: int) -> Fork | None:
    """Down from the node's newest block to one that is ours. None where its headers don't lead to one another."""
    assert branch.tip is not None
    first = branch.unfinal[0].number if branch.unfinal and branch.final is None else -1
    top = min(branch.tip[0] + 1, await nodes.number(node))
    above, parent = "", ""
    for number in range(top, max(lowest, 0) - 1, -1):
        if number < first:  # all that we told is gone
            return Fork(number, above)
        header = await nodes.header_at(node, number)
        found = str(header["hash"]).lower()
        if parent and found != parent:
            return None
        if short(found) == branch.hash_at(number):
            return Fork(number, above)
        if number <= branch.tip[0]:
            above = found
        parent = str(header["parentHash"]).lower()
    return Fork(lowest - 1, above)

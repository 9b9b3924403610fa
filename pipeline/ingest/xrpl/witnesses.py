"""Do the other nodes have the same ledger as the one that gave it?

A ledger's hash covers its parent's, so what nodes say of the last of a batch holds for all of it. A ledger is
disputed where at least as many nodes name another one; then nobody's word decides, and none is published.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from pipeline.domain.decode.xrpl_errors import RecordedError
from pipeline.ingest.xrpl.node import Node, NodeError
from pipeline.ingest.xrpl.nodes import Nodes
from pipeline.ingest.xrpl.start import header_of_node
from schemas.records import Check

WITNESS_WAIT_S: Final = 1.0  # so long other nodes' word is waited for, where there are several


@dataclass(frozen=True, slots=True)
class Votes:
    """How many nodes have a ledger as it was given (who gave it among them), and how many another one."""

    supporters: int
    others: int

    @property
    def disputed(self) -> bool:
        return self.others >= self.supporters

    def check(self) -> Check:
        """The votes of a ledger that is not disputed as a check."""
        if self.supporters > 1:
            return {"name": "witnesses", "outcome": "holds", "detail": ""}
        return {"name": "witnesses", "outcome": "not_applicable", "detail": "no other node has told it"}


class Witnesses:
    """Asks the nodes of one ingest. One per ingest."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self._index, self._words = -1, dict[str, str]()  # of the ledger that was last judged alone

    async def of_last(self, index: int, ledger_hash: str, giver: Node) -> Votes:
        """Votes on the last ledger of a batch: what nodes announced, else what they answer."""
        words = self.announced(index)
        asked = [
            node for node in self._nodes.candidates(index)
            if node.name not in words and node is not giver and may_have(node, index)
        ]  # fmt: skip
        words |= {name: header["ledger_hash"] for name, header in (await self._headers(asked, index)).items()}
        return _votes({**words, giver.name: ledger_hash}, ledger_hash)

    async def of_next(self, index: int, ledger_hash: str, giver: Node, parent_hash: str | None) -> Votes:
        """Votes on the ledger that comes next, `parent_hash` being the one published last (None: not known).

        A node whose ledger does not follow ours has no say, one that rests has; and a word stays until this
        ledger is published, or whoever is there alone for a moment would decide.
        """
        if index != self._index:
            self._index, self._words = index, {}
        self._words |= self.announced(index)
        asked = [n for n in self._nodes.nodes if n.state.connected and n.state.synced and n is not giver]
        for name, header in (await self._headers(asked, index)).items():
            self._words[name] = header["ledger_hash"]
            if parent_hash is not None and header["parent_hash"] != parent_hash:
                del self._words[name]
        self._words[giver.name] = ledger_hash
        return _votes(self._words, ledger_hash)

    def announced(self, index: int) -> dict[str, str]:
        """The hashes that nodes announced for a ledger."""
        told = ((node.name, node.state.hashes.get(index)) for node in self._nodes.nodes)
        return {name: ledger_hash for name, ledger_hash in told if ledger_hash is not None}

    async def _headers(self, nodes: Iterable[Node], index: int) -> dict[str, dict[str, Any]]:
        """Headers that nodes give in time, by the node's name."""
        tasks = {node.name: asyncio.create_task(_header(node, index)) for node in nodes}
        if not tasks:
            return {}
        try:
            await asyncio.wait(tasks.values(), timeout=WITNESS_WAIT_S)
            return {name: found for name, task in tasks.items() if task.done() and (found := task.result())}
        finally:
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)


def may_have(node: Node, index: int) -> bool:
    """Has it heard of the ledger, and not said that its history begins later?"""
    held = node.state.held
    return node.state.validated >= index and not (held and index < held[0][0])


async def _header(node: Node, index: int) -> dict[str, Any] | None:
    try:
        return await header_of_node(node, index)
    except NodeError as error:
        node.failed(error)
    except RecordedError as error:
        node.distrust(str(error))
    return None


def _votes(words: dict[str, str], ledger_hash: str) -> Votes:
    supporters = sum(word == ledger_hash for word in words.values())
    return Votes(supporters, len(words) - supporters)

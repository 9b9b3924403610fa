"""The pool of nodes as `pipeline.ingest.snapshot` asks it: one answer at a time, and who gave it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.ingest.xrpl.node import Node, NodeError
from pipeline.ingest.xrpl.nodes import Nodes, NoNode


class StateSource:
    """`ask` and `refuse` for `take_snapshot`. Every request may be answered by another node."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self._last: Node | None = None

    async def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The answer of the best node that has one. Raises NoNode."""
        fields = {name: value for name, value in request.items() if name != "command"}
        for node in self._nodes.candidates(int(fields["ledger_index"])):
            try:
                answer = await node.ask(str(request["command"]), **fields)
            except NodeError as error:
                node.failed(error)
                continue
            self._last = node
            return answer
        raise NoNode(f"no node can be asked for {request['command']}: {self._nodes.troubles()}")

    def refuse(self, why: str) -> None:
        """The last answer can't be: its node is not asked for a while."""
        if self._last is not None:
            self._last.distrust(why)

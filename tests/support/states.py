"""Recorded states, and nodes that give them page by page, with faults on request."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.domain.xrpl_encode import encode_entry
from tests.support.truth import RECORDED, ROOT, read_ledgers

Json = dict[str, Any]
PROOF = ROOT / "tests/data/xrpl-proof"
SHARED = ROOT.parent / "shared/data"


@cache
def _read(path: Path) -> Json:
    document: Json = json.loads(gzip.decompress(path.read_bytes()))
    return document


def state_67() -> list[Json]:
    """Every entry after ledger 67 of the recorded chain, in JSON, in the order of their indexes."""
    return list(_read(PROOF / "state-67.json.gz")["state"])


def ledger_38129() -> Json:
    """Mainnet ledger 38129 with its state under `accountState`."""
    return _read(PROOF / "ledger-38129.json.gz")


@cache
def headers() -> Mapping[int, Json]:
    """Headers of the recorded chain by index, as a node gives them."""
    return {
        answer["ledger"]["ledger_index"]: {k: v for k, v in answer["ledger"].items() if k != "transactions"}
        for answer in read_ledgers(RECORDED)
    }


def binary(entry: Json) -> Json:
    """An entry as `ledger_data` gives it with binary:true."""
    return {"data": encode_entry(entry).hex().upper(), "index": entry["index"]}


class StateNode:
    """Answers `ledger` and `ledger_data` as a node does; `spoil(request, answer)` may change an answer."""

    def __init__(
        self,
        header: Json,
        entries: Sequence[Json],
        *,
        page: int = 40,
        as_json: bool = False,
        spoil: Callable[[Json, Json], Json] | None = None,
    ) -> None:
        self.header, self.page, self.spoil = header, page, spoil
        self.entries = sorted(entries, key=lambda e: e["index"])
        self.shown = self.entries if as_json else [binary(e) if "data" not in e else e for e in self.entries]
        self.requests: list[Json] = []

    async def ask(self, request: Json) -> Json:
        self.requests.append(request)
        answer = self._ledger() if request["command"] == "ledger" else self._page(request)
        return self.spoil(request, answer) if self.spoil else answer

    def _about(self) -> Json:
        index = int(self.header["ledger_index"])
        return {"ledger_hash": self.header["ledger_hash"], "ledger_index": index, "validated": True}

    def _ledger(self) -> Json:
        return {**self._about(), "ledger": dict(self.header)}

    def _page(self, request: Json) -> Json:
        assert request["ledger_index"] == int(self.header["ledger_index"]), "a page that is not pinned"
        after = request.get("marker", "")
        rest = [shown for shown in self.shown if shown["index"] > after]
        answer = {**self._about(), "state": rest[: self.page]}
        if len(rest) > self.page:
            answer["marker"] = f"{int(rest[self.page]['index'], 16) - 1:064X}"
        return answer


def node_67(**options: Any) -> StateNode:
    """A node with the state after ledger 67 of the recorded chain."""
    return StateNode(headers()[67], state_67(), **options)

"""Pools and readers on anvil for tests of the EVM ingest's nodes, and what anvil itself answers to compare with."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import pytest

from pipeline.ingest.evm import health
from pipeline.ingest.evm import node as node_module
from pipeline.ingest.evm import read as read_module
from pipeline.ingest.evm.fetch import Fetched
from pipeline.ingest.evm.nodes import Missing, Nodes, NoNode
from pipeline.ingest.evm.read import Reader, Want
from tests.support.anvil import Anvil

Json = dict[str, Any]
CHAIN_ID: Final = 31337
TRIES: Final = 3000
NOTHING_WATCHED: Final = Want(frozenset(), frozenset(), False, 0)


def hasten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses of milliseconds: who waits here waits for nothing else."""
    monkeypatch.setattr(node_module, "BACKOFF_S", (0.005, 0.2))
    monkeypatch.setattr(health, "COOL_S", (0.005, 0.05))
    monkeypatch.setattr(health, "DISTRUST_S", (0.02, 0.2))
    monkeypatch.setattr(read_module, "PAUSE_S", (0.005, 0.03))


def pool(*urls: str, **options: Any) -> Nodes:
    """Nodes with short times; `options` as of Nodes."""
    known = {"chain_id": CHAIN_ID, "timeout_s": 20.0, "rate": 0, "poll_s": 0.03, "silence_s": 1.0}
    return Nodes(urls, **{**known, **options})


def reader(nodes: Nodes, level: Any = "header", exceptions: Sequence[str] = (), **options: Any) -> Reader:
    return Reader(nodes, level, exceptions, **{"parallel": 2, "log_range": 8, **options})


def want(*contracts: str, watched: Sequence[str] = (), everything: bool = False) -> Want:
    """Logs of these contracts, transactions of these addresses, or everything."""
    lower = frozenset(one.lower() for one in contracts)
    return Want(lower, frozenset(one.lower() for one in watched), everything, 0)


async def until(nodes: Nodes, holds: Any, seconds: float = 120.0) -> None:
    """Wait until it holds. AssertionError if it does not in time."""
    async with asyncio.timeout(seconds):
        while True:
            found = holds()
            if await found if asyncio.iscoroutine(found) else found:
                return
            await nodes.wait(0.02)


async def read_block(one: Reader, number: int, wanted: Want) -> Fetched:
    """A block, however often it takes."""
    for _ in range(TRIES):
        try:
            return await one.block(number, wanted)
        except (NoNode, Missing):
            await asyncio.sleep(0.01)
    raise AssertionError(f"no block {number} after {TRIES} tries")


async def read_range(one: Reader, first: int, last: int, wanted: Want) -> list[Fetched]:
    """All of a range, however often it takes."""
    found: list[Fetched] = []
    for _ in range(TRIES):
        if len(found) == last - first + 1:
            return found
        try:
            found += await one.range(first + len(found), last, wanted)
        except (NoNode, Missing):
            await asyncio.sleep(0.01)
    raise AssertionError(f"{len(found)} of blocks {first} to {last} after {TRIES} tries")


@cache
def _true(anvil: Anvil, number: int, whole: bool) -> tuple[Json, list[Json]]:
    """A block and its receipts. Kept: the chains compared with here are not rewritten."""
    block = anvil.block(number, full=whole)
    assert block is not None
    return block, anvil.receipts(number)


def _unproven(block: Json) -> Json:
    return {"transactions": block["transactions"]}


def assert_true(anvil: Anvil, fetched: Sequence[Fetched], first: int) -> None:
    """That blocks first… are those of the true node, bit by bit, and that what was left out is not wanted.

    But for the list of transaction hashes of a block that is not read whole: nothing proves it.
    """
    for number, one in enumerate(fetched, first):
        whole = bool(one.block["transactions"]) and isinstance(one.block["transactions"][0], dict)
        true, receipts = _true(anvil, number, whole)
        assert {**one.block, **({} if whole or one.receipts is not None else _unproven(true))} == true, (
            f"block {number}"
        )
        assert (one.number, one.hash, one.parent) == (number, true["hash"], true["parentHash"])
        assert not any(check["outcome"] == "broken" for check in one.checks)
        if one.receipts is not None:
            assert one.receipts == receipts, f"receipts of block {number}"
            assert whole or not receipts
            continue
        assert not one.want.everything
        assert not any(
            log["address"] in one.want.addresses for receipt in receipts for log in receipt["logs"]
        )
        ends = {receipt[end] for receipt in receipts for end in ("from", "to")}
        assert not ends & one.want.watched

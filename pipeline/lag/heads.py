"""The newest validated ledger that an XRPL node tells, and which chain that is. Fails softly.

A node's network id does not tell chains apart (a stand-alone node says 0, as mainnet does), so it is asked
for a ledger that Kafka holds: the same hash means the same chain.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, Final

from pipeline.domain.lag_look import Mark
from pipeline.ingest.xrpl.address import Address, AddressError, core, parse_addresses

RIPPLE_EPOCH_S: Final = 946_684_800
NOBODY: Final = "xrpl:?"  # the chain of a node, as long as Kafka holds nothing


class NodeSilent(RuntimeError):
    """The node gives no head; the message names it and says why."""


async def heads(
    urls: str, held: Iterable[Mark], network: str = "", timeout_s: float = 3.0
) -> tuple[dict[str, Mark], list[str]]:
    """(chain → newest head of any core node of `urls`, what went wrong in one line each).

    `urls` as TIDEBOOK_XRPL_URLS; `held`: the last block of each chain in Kafka; `network` names the chain
    while Kafka holds nothing.
    """
    if not urls:
        return {}, []
    try:
        nodes = core(parse_addresses(urls))
    except AddressError as error:
        return {}, [str(error)]
    held = list(held)
    answers = await asyncio.gather(
        *(_head(node, held, network or NOBODY, timeout_s) for node in nodes), return_exceptions=True
    )
    found: dict[str, Mark] = {}
    problems = []
    for answer in answers:
        if isinstance(answer, NodeSilent):
            problems.append(str(answer))
        elif isinstance(answer, BaseException):
            raise answer
        elif answer.chain not in found or answer.block > found[answer.chain].block:
            found[answer.chain] = answer
    return found, problems


async def _head(node: Address, held: list[Mark], unnamed: str, timeout_s: float) -> Mark:
    from websockets.exceptions import WebSocketException
    from xrpl.asyncio.clients import AsyncWebsocketClient
    from xrpl.asyncio.clients.exceptions import XRPLRequestFailureException

    try:
        async with asyncio.timeout(timeout_s), AsyncWebsocketClient(node.url) as client:
            head = _mark(await _ledger(client, "validated"), node)
            chain = await _chain(client, held, head) if held else unnamed
    except TimeoutError:
        raise NodeSilent(f"node {node.name}: no answer within {timeout_s:g} s") from None
    except (
        WebSocketException,
        OSError,
        XRPLRequestFailureException,
        LookupError,
        TypeError,
        ValueError,
    ) as error:
        said = str(error).splitlines()[0] if str(error) else ""
        raise NodeSilent(f"node {node.name}: {type(error).__name__}: {said}") from None
    if chain is None:
        raise NodeSilent(f"node {node.name}: none of the chains in Kafka is its own")
    return Mark(chain, head.block, head.time, head.hash, head.source)


async def _ledger(client: Any, index: int | str) -> Mapping[str, Any] | None:
    """The header of a validated ledger; None where the node has none."""
    from xrpl.models.requests import Ledger

    answer = await client.request(Ledger(ledger_index=index))
    if not answer.is_successful() or answer.result.get("validated") is not True:
        return None
    return dict(answer.result)


def _mark(result: Mapping[str, Any] | None, node: Address) -> Mark:
    if result is None:
        raise NodeSilent(f"node {node.name}: it has no validated ledger (not synced)")
    close = (int(result["ledger"]["close_time"]) + RIPPLE_EPOCH_S) * 1000
    return Mark("", int(result["ledger_index"]), close, str(result["ledger_hash"]), node.name)


async def _chain(client: Any, held: list[Mark], head: Mark) -> str | None:
    """Which chain the node is of; None where it contradicts all of them.

    A node that lacks the ledger (it lags, or has no history so far back) is taken to be of the only chain.
    """
    unknown = []
    for mark in held:
        result = await _ledger(client, mark.block) if mark.block <= head.block else None
        if result is None or not mark.hash:
            unknown.append(mark.chain)
        elif result["ledger_hash"] == mark.hash:
            return mark.chain
    return unknown[0] if len(held) == len(unknown) == 1 else None

"""The newest block that an EVM chain's nodes tell, of those that its ingest is to read. Fails softly.

What is to be read is a setting of the chain: from `latest`, `safe` or `finalized` on, and never nearer to the newest
block than `final_depth` asks. So a chain whose final blocks alone are wanted is not behind by what is not final
yet. The first of its addresses that answers is believed; a node of another chain is none of ours.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from pipeline.domain.decode.evm_values import needed
from pipeline.domain.decode.xrpl_errors import Malformed
from pipeline.domain.lag_look import Mark
from pipeline.lag.heads import NodeSilent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from web3 import AsyncWeb3

    from pipeline.ingest.evm.config import ChainConfig

TAGS: Final = {"head": "latest", "safe": "safe", "finalized": "finalized"}


async def evm_heads(
    chains: Mapping[str, ChainConfig], timeout_s: float = 3.0
) -> tuple[dict[str, Mark], list[str]]:
    """(chain → newest block to be read, what went wrong in one line each)."""
    if not chains:
        return {}, []
    told = await asyncio.gather(*(_head(config, timeout_s) for config in chains.values()))
    found = {name: mark for name, (mark, _) in zip(chains, told, strict=True) if mark is not None}
    return found, [line for _, problems in told for line in problems]


async def _head(config: ChainConfig, timeout_s: float) -> tuple[Mark | None, list[str]]:
    """What the first address that answers tells; those before it have said why not."""
    from pipeline.ingest.evm.node import name_of

    problems: list[str] = []
    for url in config.urls:
        name = name_of(url)
        try:
            async with asyncio.timeout(timeout_s), _client(url) as node:
                return await _asked(node, config, name), problems
        except TimeoutError:
            problems.append(f"node {name}: no answer within {timeout_s:g} s")
        except NodeSilent as silent:
            problems.append(str(silent))
        except Exception as error:  # whatever a client makes of a neighbour that misbehaves
            said = str(error).replace(url, name).splitlines()
            problems.append(f"node {name}: {type(error).__name__}: {said[0][:200] if said else ''}")
    return None, problems


@asynccontextmanager
async def _client(url: str) -> AsyncIterator[AsyncWeb3[Any]]:
    from web3 import AsyncHTTPProvider, AsyncWeb3, WebSocketProvider

    if url.startswith("ws"):
        async with AsyncWeb3(WebSocketProvider(url)) as client:
            yield client
        return
    provider = AsyncHTTPProvider(url, exception_retry_configuration=None)
    try:
        yield AsyncWeb3(provider)
    finally:
        await provider.disconnect()


async def _asked(node: AsyncWeb3[Any], config: ChainConfig, name: str) -> Mark:
    said = await _ask(node, "eth_chainId")
    if said != hex(config.chain_id):
        raise NodeSilent(f"node {name}: it is of chain {str(said)[:40]}, not {config.name}")
    latest = await _block(node, "latest", name)
    depth = {"head": 0, "safe": config.final_depth // 2, "finalized": config.final_depth}[config.confirmation]
    number = latest[0] - depth
    if config.confirmation != "head":
        number = min(number, (await _block(node, TAGS[config.confirmation], name))[0])
    if number < 0:
        raise NodeSilent(f"node {name}: it has no block that is {config.confirmation} yet")
    number, time, block_hash = latest if number == latest[0] else await _block(node, hex(number), name)
    return Mark(config.name, number, time, block_hash, name)


async def _block(node: AsyncWeb3[Any], which: str, name: str) -> tuple[int, int, str]:
    """(number, time in ms since 1970, hash) of a block."""
    block = await _ask(node, "eth_getBlockByNumber", which, False)
    if not isinstance(block, Mapping):
        raise NodeSilent(f"node {name}: it has no block {which}")
    try:
        return (
            needed(block, "number", which),
            1000 * needed(block, "timestamp", which),
            str(block.get("hash")),
        )
    except Malformed as error:
        raise NodeSilent(f"node {name}: {error}") from None


async def _ask(node: AsyncWeb3[Any], method: str, *params: Any) -> Any:
    answer = await node.provider.make_request(method, list(params))
    if answer.get("error"):
        raise NodeSilent(f"{method}: {answer['error']}")
    return answer.get("result")

"""Where an ingest begins: which chain the nodes serve, and which of its ledgers comes next.

What Kafka holds decides: the ingest goes on behind the last ledger of the chain's partition. Only where
the partition is empty is there a choice: a ledger that is named, the newest one, the oldest that a node
has; or, when the embedded broker has forgotten all, the first ledger that this data directory knows.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from pipeline.domain.chain_link import BrokenChain, check_header
from pipeline.domain.decode.xrpl_errors import RecordedError
from pipeline.domain.decode.xrpl_shapes import read_header, split_ledger
from pipeline.domain.verdict import Level, Watermark
from pipeline.ingest.chains import Chain, ChainRegister, Network
from pipeline.ingest.publish import LEDGERS, VERDICTS
from pipeline.ingest.xrpl.address import SETTING
from pipeline.ingest.xrpl.node import Node, NodeError, NotFound
from pipeline.ingest.xrpl.nodes import Expected, Nodes, checked
from schemas.codec import Codec, WireError
from schemas.records import XrplLedger
from topics.tail import last_message

TOLD_LEDGERS: Final = 4  # first ledgers by which an unnamed chain is known again
ROUNDS: Final = 4  # all nodes must say so often that they have not a ledger
PATIENCE_S: Final = 30.0
PAUSE_S: Final = 0.5


class StartError(ValueError):
    """The ingest can't begin so; one line says why and what to do."""


@dataclass(frozen=True, slots=True)
class Held:
    """What Kafka holds of a chain."""

    ledger: XrplLedger | None
    verdict: Mapping[str, Any] | None


def expected_of(network: str, networks: Mapping[str, Network]) -> Expected:
    """What nodes must be of, by the name of their network ("": judged by the first node)."""
    if not network:
        return Expected()
    name = network if ":" in network else f"xrpl:{network}"
    known = networks.get(name)
    if known is None:
        return Expected(name=name)
    return Expected(known.network_id, known.anchor, name)


async def expect_by_id(nodes: Nodes, networks: Mapping[str, Network]) -> str:
    """The name of the network that the first node told, and its chain checked by its anchor; "" for none.

    A stand-alone node calls itself network 0, as mainnet does; the anchor tells them apart.
    """
    for network in networks.values():
        if network.network_id is None or network.network_id != nodes.network_id:
            continue
        if network.anchor is None:
            return network.name
        index, ledger_hash = network.anchor
        if nodes.tip < index:
            return ""
        header = await agreed_header(nodes, index)  # None: nodes of mainnet without full history
        return network.name if header is None or header["ledger_hash"] == ledger_hash else ""
    return ""


async def first_headers(nodes: Nodes, first: int) -> list[dict[str, Any]]:
    """Headers of the first few ledgers from `first` on, as far as there are any: a chain of them."""
    for _ in range(ROUNDS):
        headers: list[dict[str, Any]] = []
        for index in range(first, min(first + TOLD_LEDGERS, max(first, nodes.tip) + 1)):
            header = await agreed_header(nodes, index)
            if header is None:
                break
            headers.append(header)
        if all(after["parent_hash"] == one["ledger_hash"] for one, after in pairwise(headers)):
            return headers
        await nodes.wait(PAUSE_S)
    raise StartError(f"the nodes give ledgers from {first} on that do not lead to one another")


async def agreed_header(nodes: Nodes, index: int) -> dict[str, Any] | None:
    """The header that more than half of the nodes give, its hash recomputed; None if none has the ledger.

    Which chain is followed is decided by it, so one node's word is not enough where there are several.
    Raises StartError if they do not agree, or if no node answers.
    """
    found: dict[str, dict[str, Any]] = {}
    deadline, lacking_rounds = time.monotonic() + PATIENCE_S, 0
    while time.monotonic() < deadline:
        votes: Counter[str] = Counter()
        candidates, lacking = nodes.candidates(index), 0
        for node in candidates:
            try:
                header = await header_of_node(node, index)
            except (NodeError, RecordedError) as error:
                lacking += isinstance(error, NotFound)
                continue
            found[header["ledger_hash"]] = header
            votes[header["ledger_hash"]] += 1
        for ledger_hash, count in votes.most_common(1):
            if 2 * count > votes.total():
                return found[ledger_hash]
        lacking_rounds += bool(candidates) and lacking == len(candidates)
        if lacking_rounds >= ROUNDS and not found:
            return None
        await nodes.wait(PAUSE_S)
    if found:
        raise StartError(f"the nodes do not agree on ledger {index}: {', '.join(sorted(found))}")
    raise StartError(f"setting {SETTING}: no node answers for ledger {index}: {nodes.troubles()}")


async def header_of_node(node: Node, index: int) -> dict[str, Any]:
    """A validated ledger's header, whole and hashing to what it says. Raises NodeError, RecordedError."""
    answer = checked(node, index, await node.ask("ledger", ledger_index=index))
    header = read_header(split_ledger({**answer, "ledger": {**answer["ledger"], "transactions": []}}))
    try:
        check = check_header(header, None)
    except BrokenChain as broken:
        node.distrust(str(broken))
        raise NodeError(f"{node.name}: {broken}") from None
    if header["ledger_index"] != index or check["outcome"] != "holds":
        raise NodeError(f"{node.name}: the header of ledger {index} is not whole: {check['detail']}")
    return header


async def held_by_kafka(url: str, codec: Codec, chain: Chain) -> Held:
    """The last ledger and verdict of the chain's partition. Raises StartError if it is another chain's."""
    found: list[Any] = []
    for topic in (LEDGERS, VERDICTS):
        value = await last_message(url, topic, chain.partition)
        try:
            record = codec.decode(value)[1] if value is not None else None
        except WireError as error:
            raise StartError(
                f"the last message of {topic} partition {chain.partition} can't be read ({error}): where to go on?"
            ) from None
        if record is not None and record["chain"] != chain.name:
            raise StartError(
                f"{topic} partition {chain.partition} holds chain {record['chain']}, not {chain.name}: give this "
                "chain a number and partition of its own in the file of TIDEBOOK_CHAINS_FILE"
            )
        found.append(record)
    return Held(*found)


def watermark_of(chain: Chain, held: Held, level: Level) -> Watermark:
    """Go on with what is verified, or begin."""
    if held.verdict is not None and held.ledger is not None:
        return Watermark.resumed(held.verdict, level)
    return Watermark(chain.name, chain.number, level)


def first_wanted(nodes: Nodes, wanted: str, register: ChainRegister, known: Chain | None) -> int:
    """`--from`: an index, "genesis", "earliest", "validated" or "" (what is known, else validated)."""
    if wanted.isdecimal() and int(wanted) > 0:
        return int(wanted)
    if wanted == "genesis":
        return 1
    if wanted == "" and known is not None and known.ledgers:
        return known.first
    if wanted == "earliest":
        held = nodes.next_held(1)
        if held is None:
            raise StartError("no node tells which ledgers it has (complete_ledgers): name one with --from")
        return held
    if wanted in ("", "validated"):
        return nodes.tip
    raise StartError(f"--from {wanted!r}: write a ledger index, genesis, earliest or validated")


async def chain_of(
    nodes: Nodes, register: ChainRegister, name: str, wanted: str, held: Callable[[Chain], Awaitable[Held]]
) -> tuple[Chain, int]:
    """(the chain that the nodes serve, the first ledger to ask for where Kafka has none). Raises ChainError."""
    if name:
        known = next((chain for chain in register.chains if chain.name == name), None)
    else:
        known = await _known_again(nodes, register, held)
    first = first_wanted(nodes, wanted, register, known)
    headers = await first_headers(nodes, first)
    if known is not None and (not headers or not name):
        return known, first  # nodes forget old ledgers: what Kafka holds last must lead on
    if not headers:
        oldest = nodes.next_held(1)
        raise StartError(
            f"no node has ledger {first}" + (f"; the oldest that one has is {oldest}" if oldest else "")
        )
    return register.of_node(headers, name), first


async def _known_again(
    nodes: Nodes, register: ChainRegister, held: Callable[[Chain], Awaitable[Held]]
) -> Chain | None:
    """An unnamed chain of this data directory that the nodes have too: its last ledger in Kafka, or its first."""
    for chain in register.chains:
        if chain.name in register.networks or not chain.ledgers or not chain.name.startswith("xrpl:"):
            continue
        last = None
        with contextlib.suppress(StartError):  # another chain in its partition: told when it is chosen
            last = (await held(chain)).ledger
        if last is not None and last["ledger_hash"] is not None:
            header = await agreed_header(nodes, last["ledger_index"])
            if header is not None and header["ledger_hash"] == last["ledger_hash"]:
                return chain
        if chain.is_of(await first_headers(nodes, chain.first)):
            return chain
    return None

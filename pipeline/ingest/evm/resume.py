"""Where an EVM ingest goes on: the branch that Kafka holds of the chain, and the blocks of it that are not final.

The newest messages of the chain's partition are read, back to one from whose time nothing above the last final block
had been told yet (`highest`): all that stands above it, and how often each block there was told, comes after. The
embedded broker forgets everything; there the ingest's own journal is read instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pipeline.domain.branch import Branch, short, step_of
from pipeline.ingest.chains import Chain
from pipeline.ingest.evm.line import Told
from pipeline.ingest.publish import BLOCKS, CONTRACTS, VERDICTS
from pipeline.ingest.xrpl.start import StartError
from schemas.codec import Codec, WireError
from schemas.records import EvmBlock
from topics.tail import tail

VERDICTS_BACK: Final = 1_024


@dataclass
class Resumed:
    """What is known of a chain at the start. `unfinal`: the blocks that stand, lowest first."""

    branch: Branch = field(default_factory=Branch)
    unfinal: list[Told] = field(default_factory=list)
    last: EvmBlock | None = None  # the last message
    next_offset: int = 0
    records: list[EvmBlock] = field(default_factory=list)  # what it was read from

    def cut(self) -> list[EvmBlock]:
        """The chunks of the last message, where it lacks some."""
        last = self.branch.open
        if last is None:
            return []
        found = {one["chunk"]: one for one in self.records if step_of(one).name[:3] == last.name[:3]}
        return [found[number] for number in sorted(found)]


def fold(records: Sequence[EvmBlock]) -> Resumed:
    """The state that messages of a chain leave, given in order; they need not begin at its start."""
    branch = Branch()
    heads: dict[tuple[str, int], dict[int, EvmBlock]] = {}
    for record in records:
        step = step_of(record)
        if branch.seen(step):
            continue
        branch.take(step)
        branch.highest = max(branch.highest, record["highest"])
        if record["finality"] == "head":
            heads.setdefault((short(record["block_hash"]), record["incarnation"]), {})[record["chunk"]] = (
                record
            )
    unfinal = []
    for one in branch.unfinal:
        chunks = heads[one.hash, one.incarnation]
        unfinal.append(Told(tuple(chunks[number] for number in sorted(chunks))))
    return Resumed(branch, unfinal, records[-1] if records else None, records=list(records))


def is_enough(records: Sequence[EvmBlock]) -> bool:
    """Do these newest messages tell the whole branch? They do from where nothing above what is final now was told."""
    finals = (
        one for one in reversed(records) if one["finality"] == "final" and one["chunk"] == one["chunks"] - 1
    )
    final = next((one["block_number"] for one in finals), None)
    return final is not None and any(0 <= one["highest"] <= final for one in records)


async def held_by_kafka(url: str, codec: Codec, chain: Chain) -> Resumed:
    """What the chain's partition holds. Raises StartError where it holds another chain, BrokerError."""

    records: list[EvmBlock] = []

    def enough(values: Sequence[bytes]) -> bool:
        nonlocal records
        records = [_decoded(codec, value, chain) for value in values]
        return is_enough(records)

    found = await tail(url, BLOCKS, chain.partition, enough)
    resumed = fold(records)
    resumed.next_offset = found.next_offset
    return resumed


async def contracts_of(url: str, codec: Codec, chain: Chain) -> list[dict[str, Any]]:
    """All that evm.contracts.v1 holds of the chain, oldest first."""
    found = await tail(url, CONTRACTS, chain.partition)
    records = [codec.decode(value)[1] for value in found.values]
    return [record for record in records if record["chain"] == chain.name]


async def last_verdict(url: str, codec: Codec, chain: Chain) -> dict[str, Any] | None:
    """The chain's verdict that reaches furthest of the last ones of its run (a writer that came late may have told
    an older one after it); None before the first."""
    found = await tail(url, VERDICTS, chain.partition, lambda values: len(values) >= VERDICTS_BACK)
    told = [codec.decode(value)[1] for value in found.values[-VERDICTS_BACK:]]
    of_run = [verdict for verdict in told if verdict["run"] == told[-1]["run"]]
    return max(of_run, key=lambda verdict: verdict["verified_up_to"], default=None)


def _decoded(codec: Codec, value: bytes, chain: Chain) -> Any:
    try:
        record = codec.decode(value)[1]
    except WireError as error:
        raise StartError(
            f"{BLOCKS} partition {chain.partition} holds a message that can't be read: {error}"
        ) from error
    if record["chain"] != chain.name:
        raise StartError(
            f"{BLOCKS} partition {chain.partition} holds chain {record['chain']}, not {chain.name}: give this "
            "chain a number and partition of its own in the file of TIDEBOOK_CHAINS_FILE"
        )
    return record

"""Recorded EVM answers of any shape → blocks with their transactions, receipts and logs. Pure.

What is read: answers of eth_getBlockBy…, eth_getBlockReceipts, eth_getTransactionReceipt, eth_getLogs and
messages of eth_subscribe, whole or their `result` alone, by method name or inside `input`, a request/response
pair, a batch, or bare; single receipts, logs, lists. Exports with snake_case names too. Everything of a file
goes into one bag, and belongs together by block hash and transaction hash: a log is named by (block hash, log
index), and one that comes as `removed` takes back what came before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

from pipeline.domain.decode.evm_values import INT_LIMIT, quantity
from pipeline.domain.decode.xrpl_errors import ErrorAnswer, Malformed, NotALedger, RecordedError

Fields = Mapping[str, Any]

_IGNORED: Final = frozenset({"note", "expected", "request", "jsonrpc", "id", "trace_block", "subscription"})
_INSIDE: Final = ("input", "response", "params")


@dataclass
class RecordedBlock:
    """What was recorded of one block, or of logs and receipts whose block is not told."""

    block_hash: str | None
    header: Fields | None = None
    receipts: dict[str, Fields] = field(default_factory=dict)  # by transaction hash
    logs: dict[str, dict[int, Fields]] = field(default_factory=dict)  # loose ones, by transaction hash, place

    def transactions(self) -> dict[str, Fields]:
        """The header's transactions by hash; where it lists hashes only, that is all they have. Malformed if
        there is no list of them."""
        found: dict[str, Fields] = {}
        listed = self.header.get("transactions") if self.header is not None else None
        if listed is not None and not isinstance(listed, list | tuple):
            raise Malformed(f"transactions of a block are no list: {str(listed)[:80]}")
        for index, each in enumerate(listed or ()):
            if isinstance(each, Mapping):
                found[_name(each.get("hash"))] = camel(each)
            else:
                found[_name(each)] = {"hash": each, "transactionIndex": index}
        return found


class Bag:
    """Collects recorded answers; `blocks` in the order they were first met."""

    def __init__(self) -> None:
        self._blocks: dict[str | None, RecordedBlock] = {}

    def add(self, value: Any) -> list[RecordedError]:
        """Puts an answer of any shape in; what in it can't be read. Nothing and null answers are fine."""
        faults: list[RecordedError] = []
        self._add(value, faults)
        return faults

    def blocks(self) -> list[RecordedBlock]:
        """Blocks that hold anything."""
        return [one for one in self._blocks.values() if one.header is not None or one.receipts or one.logs]

    def _add(self, value: Any, faults: list[RecordedError]) -> None:
        if value is None:
            return
        if isinstance(value, list | tuple):
            for each in value:
                self._add(each, faults)
            return
        if not isinstance(value, Mapping):
            faults.append(NotALedger(f"no block, receipt or log: {str(value)[:80]!r}"))
            return
        try:
            self._add_object(camel(value), faults)
        except RecordedError as error:
            faults.append(error)

    def _add_object(self, value: Fields, faults: list[RecordedError]) -> None:
        if value.get("error") is not None and value.get("result") is None and "jsonrpc" in value:
            raise ErrorAnswer(_error_text(value["error"]))
        if "topics" in value and "address" in value:
            self._log(value)
        elif "gasUsed" in value and "transactionHash" in value:
            self._of(value.get("blockHash")).receipts[_name(value["transactionHash"])] = value
        elif "parentHash" in value and "number" in value:
            self._of(value.get("hash")).header = value
        elif "jsonrpc" in value and "result" in value:
            self._add(value["result"], faults)
        else:
            self._wrapper(value, faults)

    def _wrapper(self, value: Fields, faults: list[RecordedError]) -> None:
        """An object that holds answers: under `input`, by method name, as block, receipts, logs …"""
        known = False
        for name, inner in value.items():
            if name in _IGNORED:
                known = True
            elif name in _INSIDE or name in _HOLDERS or name.startswith("eth_"):
                known = True
                self._add(inner, faults)
        if not known and value:
            raise NotALedger(f"no block, receipt or log in an object with {', '.join(sorted(value))[:80]}")

    def _log(self, log: Fields) -> None:
        logs = self._of(log.get("blockHash")).logs
        name, place = _name(log.get("transactionHash")), quantity(log, "logIndex", INT_LIMIT)
        kept = logs.setdefault(name, {})
        if log.get("removed") is True:
            kept.pop(-1 if place is None else place, None)
        else:
            kept.setdefault(
                -1 - len(kept) if place is None else place, log
            )  # no place: below all that have one
        if not kept:
            del logs[name]

    def _of(self, block_hash: Any) -> RecordedBlock:
        name = _name(block_hash) or None
        if name not in self._blocks:
            self._blocks[name] = RecordedBlock(name)
        return self._blocks[name]


_HOLDERS: Final = frozenset(
    {"block", "receipt", "receipts", "log", "logs", "result", "ethSubscriptionLogsInOrder"}
)


def _name(value: Any) -> str:
    """A hash as a key; "" where there is none."""
    if value is None:
        return ""
    if isinstance(value, bytes | bytearray):
        return "0x" + bytes(value).hex()
    if not isinstance(value, str):
        raise Malformed(f"no hash: {str(value)[:80]!r}")
    return value.lower()


def _error_text(error: Any) -> str:
    if isinstance(error, Mapping):
        return f"the node answered with an error: {error.get('message')} ({error.get('code')})"
    return f"the node answered with an error: {str(error)[:200]}"


def camel(value: Fields) -> Fields:
    """Field names as JSON-RPC has them; exports write them in snake_case. Method names stay."""
    if not any("_" in name for name in value):
        return value
    return {_camel(name): inner for name, inner in value.items()}


@cache
def _camel(name: str) -> str:
    if name.startswith("eth_get") or name in _IGNORED:
        return name
    first, *rest = name.split("_")
    return first + "".join(part[:1].upper() + part[1:] for part in rest)


def recorded_blocks(values: Iterable[Any]) -> tuple[list[RecordedBlock], list[RecordedError]]:
    """Blocks of recorded answers, and what of them can't be read."""
    bag, faults = Bag(), []
    for value in values:
        faults += [value] if isinstance(value, RecordedError) else bag.add(value)
    return bag.blocks(), faults

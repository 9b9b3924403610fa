"""The logs of a block against its bloom and its receipts. Pure.

A logsBloom has three of 2048 bits set for the address and each topic of every log: a filter none of whose
addresses, or none of whose topics at some position, has its bits set matches nothing in that block, and
that is proof. The other way round it only may; then the receipts tell, and an eth_getLogs answer must be
exactly those of their logs that its filter matches.

Source: Ethereum Yellow Paper section 4.4.3 (bloom); execution-apis (eth_getLogs filters).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from eth_hash.auto import keccak

from pipeline.domain.evm_rlp import Answer, Malformed, answers, data, listed, quantity, required
from pipeline.domain.proof_errors import Contradiction, Unprovable

# Words for messages, and hex in any case.


def lower_hex(value: object) -> str:
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if not isinstance(value, str):
        raise Malformed(f"hex cannot be {str(value)[:80]!r}")
    return value.lower()


def must_equal(reason: str, what: str, stated: object, due: object) -> None:
    """Compare two values, of which those of bytes may be bytes or hex in any case."""
    if stated != due:
        shown = [lower_hex(one) if isinstance(one, (str, bytes)) else one for one in (stated, due)]
        if shown[0] != shown[1]:
            raise Contradiction(reason, f"{what} is {shown[0]}, not {shown[1]}")


def name_block(block: Answer) -> str:
    number = block.get("number")
    return f"block {quantity(number, 'number') if number is not None else '?'}"


def name_answer(answer: Answer) -> str:
    """A log, receipt or transaction, named by its hash and, of a log, its index."""
    of = answer.get("transactionHash") or answer.get("hash")
    name = f"transaction {lower_hex(of)}" if isinstance(of, (str, bytes)) else "a transaction without hash"
    return f"log {answer['logIndex']} of {name}" if answer.get("logIndex") is not None else name


@dataclass(frozen=True, slots=True)
class LogFilter:
    """What eth_getLogs was asked for: any of `addresses` (none = all), and per position any of `topics`.

    A position without topics takes any; a log with fewer topics than positions does not match. All in hex.
    """

    addresses: Collection[str] = ()
    topics: Sequence[Collection[str]] = ()

    def __post_init__(self) -> None:
        lowered = tuple(frozenset(map(lower_hex, wanted)) for wanted in self.topics)
        object.__setattr__(self, "addresses", frozenset(map(lower_hex, self.addresses)))
        object.__setattr__(self, "topics", lowered)

    def matches(self, log: Answer) -> bool:
        """Whether eth_getLogs would have answered this log."""
        if self.addresses and lower_hex(required(log, "address")) not in self.addresses:
            return False
        topics = [lower_hex(topic) for topic in listed(required(log, "topics"), "topics")]
        return len(topics) >= len(self.topics) and all(
            not wanted or topic in wanted for wanted, topic in zip(self.topics, topics, strict=False)
        )


EVERY_LOG: Final = LogFilter()


# Blooms: 2048 bits as an integer; each address and topic sets three.


@lru_cache(maxsize=1 << 16)
def _bits(item: bytes) -> int:
    digest = keccak(item)
    bits = 0
    for at in (0, 2, 4):
        bits |= 1 << (int.from_bytes(digest[at : at + 2], "big") & 2047)
    return bits


def logs_bloom(logs: Iterable[Answer]) -> bytes:
    """The 256 bytes of bloom over the addresses and topics of `logs`. Raises Malformed."""
    return bloom_bits(logs).to_bytes(256, "big")


def bloom_bits(logs: Iterable[Answer]) -> int:
    bits = 0
    for log in logs:
        bits |= _bits(data(required(log, "address"), "address", 20))
        for topic in listed(required(log, "topics"), "topics"):
            bits |= _bits(data(topic, "topics", 32))
    return bits


def bloom_may_hold(bloom: object, addresses: Collection[str], topics: Sequence[Collection[str]]) -> bool:
    """Whether a block with this bloom may hold a log of the filter; False proves that it holds none.

    `addresses` and `topics` as in LogFilter; `bloom` as in a header. An empty bloom holds no log at all.
    Raises Malformed.
    """
    held = int.from_bytes(data(bloom, "logsBloom", 256), "big")
    asked = [(addresses, 20), *((wanted, 32) for wanted in topics)]
    return held != 0 and all(
        not wanted or any(holds_bits(held, _bits(data(one, "filter", size))) for one in wanted)
        for wanted, size in asked
    )


def holds_bits(held: int, bits: int) -> bool:
    return held & bits == bits


# eth_getLogs against the block.


def check_logs_by_bloom(block: Answer, logs: Sequence[Answer], log_filter: LogFilter = EVERY_LOG) -> None:
    """What the header's bloom alone says of an eth_getLogs answer.

    No logs where it can hold none: proven. A log that it does not hold, or that is not of the filter or the
    block, is Contradiction("invented_log"). Anything else must be settled by the receipts: Unprovable.
    """
    bloom = required(block, "logsBloom")
    held = int.from_bytes(data(bloom, "logsBloom", 256), "big")
    for log in logs:
        must_equal(
            "invented_log",
            f"blockHash of {name_answer(log)}",
            required(log, "blockHash"),
            required(block, "hash"),
        )
        if not holds_bits(held, bloom_bits([log])) or not log_filter.matches(log):
            raise Contradiction("invented_log", f"{name_answer(log)} cannot be in {name_block(block)}")
    if bloom_may_hold(bloom, log_filter.addresses, log_filter.topics):
        raise Unprovable("the logsBloom may hold logs of the filter; only the receipts can tell")


def compare_logs(
    logs: Sequence[Answer], receipts: Sequence[Answer], log_filter: LogFilter = EVERY_LOG
) -> None:
    """That an eth_getLogs answer is exactly the receipts' logs that match its filter, in any order.

    Contradiction("missing_log" | "invented_log" | "changed_log" | "duplicate_log").
    """
    due = {
        _log_key(log): log
        for receipt in receipts
        for log in answers(required(receipt, "logs"), "logs")
        if log_filter.matches(log)
    }
    answered: set[int] = set()
    for log in logs:
        key = _log_key(log)
        if key in answered:
            raise Contradiction("duplicate_log", f"eth_getLogs has {name_answer(log)} twice")
        answered.add(key)
        if key not in due:
            raise Contradiction("invented_log", f"eth_getLogs has {name_answer(log)}, the receipts do not")
        if log.get("removed") or (log != due[key] and _log_content(log) != _log_content(due[key])):
            raise Contradiction("changed_log", f"eth_getLogs and the receipts differ in {name_answer(log)}")
    missing = sorted(due.keys() - answered)
    if missing:
        raise Contradiction(
            "missing_log",
            f"eth_getLogs lacks {len(missing)} of {len(due)} logs: {name_answer(due[missing[0]])}",
        )


def _log_key(log: Answer) -> int:
    return quantity(required(log, "logIndex"), "logIndex")


def _log_content(log: Answer) -> tuple[object, ...]:
    return (
        *(lower_hex(required(log, name)) for name in ("address", "data", "blockHash", "transactionHash")),
        *(quantity(required(log, name), name) for name in ("blockNumber", "transactionIndex")),
        *(lower_hex(topic) for topic in listed(required(log, "topics"), "topics")),
    )

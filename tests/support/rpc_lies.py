"""What a lying EVM node can say: each lie is a pure function of the request or of the true answer.

`before` changes what is asked of the true node, `after` changes its answer. Either says NOTHING where the lie can't
be told (no log to omit), and then it is not told and not counted. Lies never change what they are given.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

Json = dict[str, Any]
NOTHING: Final = object()
LOGS: Final = ("eth_getLogs",)
RECEIPTS: Final = ("eth_getBlockReceipts",)
BY_NUMBER: Final = ("eth_getBlockByNumber",)
BLOCKS: Final = ("eth_getBlockByNumber", "eth_getBlockByHash")
BEHIND: Final = 3  # blocks that an old head is behind


@dataclass(frozen=True)
class Said:
    """A request, the true answer to it, and what the node knows besides."""

    method: str
    params: list[Any]
    result: Any
    head: int  # the true one
    earlier: Any  # another answer that this request once had, or NOTHING


@dataclass(frozen=True)
class Lie:
    """`methods`: which requests it is about."""

    methods: tuple[str, ...]
    after: Callable[[Said, random.Random], Any] | None = None
    before: Callable[[list[Any], int, random.Random], Any] | None = None  # params, head


def _omit_one(said: Said, draw: random.Random) -> Any:
    if not said.result:
        return NOTHING
    omitted = draw.randrange(len(said.result))
    return [log for i, log in enumerate(said.result) if i != omitted]


def _omit_all(said: Said, _draw: random.Random) -> Any:
    return [] if said.result else NOTHING


def _repeat_one(said: Said, draw: random.Random) -> Any:
    return [*said.result, draw.choice(said.result)] if said.result else NOTHING


def _alter_log(said: Said, draw: random.Random) -> Any:
    """One bit of one log's data is another."""
    altered = [i for i, log in enumerate(said.result or ()) if len(log["data"]) > 2]
    if not altered:
        return NOTHING
    chosen = draw.choice(altered)
    return [
        {**log, "data": _other_end(log["data"])} if i == chosen else log for i, log in enumerate(said.result)
    ]


def _without_last(said: Said, _draw: random.Random) -> Any:
    return said.result[:-1] if said.result else NOTHING


def _receipt_without_log(said: Said, draw: random.Random) -> Any:
    with_logs = [i for i, receipt in enumerate(said.result or ()) if receipt["logs"]]
    if not with_logs:
        return NOTHING
    chosen = draw.choice(with_logs)
    return [
        {**receipt, "logs": receipt["logs"][1:]} if i == chosen else receipt
        for i, receipt in enumerate(said.result)
    ]


def _receipt_number(name: str) -> Callable[[Said, random.Random], Any]:
    """One receipt's number is one more."""

    def tell(said: Said, draw: random.Random) -> Any:
        if not said.result:
            return NOTHING
        chosen = draw.randrange(len(said.result))
        return [
            {**receipt, name: hex(int(receipt[name], 16) + 1)} if i == chosen else receipt
            for i, receipt in enumerate(said.result)
        ]

    return tell


def _null(said: Said, _draw: random.Random) -> Any:
    return NOTHING if said.result is None else None


def _header(name: str, other: Callable[[str], str]) -> Callable[[Said, random.Random], Any]:
    """One field of a block is another."""

    def tell(said: Said, _draw: random.Random) -> Any:
        if not said.result or name not in said.result or other(said.result[name]) == said.result[name]:
            return NOTHING
        return {**said.result, name: other(said.result[name])}

    return tell


def _without_transaction(said: Said, _draw: random.Random) -> Any:
    if not said.result or not said.result["transactions"]:
        return NOTHING
    return {**said.result, "transactions": said.result["transactions"][:-1]}


def _behind(said: Said, _draw: random.Random) -> Any:
    return hex(max(0, int(said.result, 16) - BEHIND))


def _ask_behind(params: list[Any], head: int, _draw: random.Random) -> Any:
    return [hex(max(0, head - BEHIND)), *params[1:]] if params[0] == "latest" else NOTHING


def _ask_other(params: list[Any], head: int, draw: random.Random) -> Any:
    """The block before or after the one that was asked for."""
    if not params[0].startswith("0x"):
        return NOTHING
    number = int(params[0], 16)
    others = [other for other in (number - 1, number + 1) if 0 <= other <= head]
    return [hex(draw.choice(others)), *params[1:]] if others else NOTHING


def _ask_latest(params: list[Any], _head: int, _draw: random.Random) -> Any:
    return ["latest", *params[1:]] if params[0] in ("finalized", "safe") else NOTHING


def _other_chain(said: Said, _draw: random.Random) -> Any:
    return hex(int(said.result, 16) + 1) if said.method == "eth_chainId" else str(int(said.result) + 1)


def _stale(said: Said, _draw: random.Random) -> Any:
    return said.earlier


def _other_end(text: str) -> str:
    """The same hexadecimal digits but for the last."""
    return text[:-1] + ("1" if text[-1] == "0" else "0")


LIES: Final[Mapping[str, Lie]] = {
    "omit_log": Lie(LOGS, _omit_one),
    "omit_all_logs": Lie(LOGS, _omit_all),
    "repeat_log": Lie(LOGS, _repeat_one),
    "alter_log": Lie(LOGS, _alter_log),
    "short_receipts": Lie(RECEIPTS, _without_last),
    "no_receipts": Lie(RECEIPTS, _null),
    "receipt_without_log": Lie(RECEIPTS, _receipt_without_log),
    "alter_gas_used": Lie(RECEIPTS, _receipt_number("gasUsed")),
    "alter_gas_price": Lie(RECEIPTS, _receipt_number("effectiveGasPrice")),
    "null_block": Lie(BLOCKS, _null),
    "empty_bloom": Lie(BLOCKS, _header("logsBloom", lambda bloom: "0x" + "0" * 512)),
    "alter_hash": Lie(BLOCKS, _header("hash", _other_end)),
    "alter_parent": Lie(BLOCKS, _header("parentHash", _other_end)),
    "omit_transaction": Lie(BLOCKS, _without_transaction),
    "wrong_block": Lie(BY_NUMBER, before=_ask_other),
    "wrong_receipts": Lie(RECEIPTS, before=_ask_other),
    "early_finality": Lie(BY_NUMBER, before=_ask_latest),
    "old_head": Lie((*BY_NUMBER, "eth_blockNumber"), _behind, _ask_behind),
    "other_chain": Lie(("eth_chainId", "net_version"), _other_chain),
    "stale": Lie((*LOGS, *RECEIPTS, *BLOCKS, "eth_blockNumber"), _stale),
}
# Told about whole HTTP requests, or about messages of a WebSocket where they fit.
TRANSPORT: Final = (
    "too_many",
    "hang",
    "html",
    "bad_gateway",
    "cut_json",
    "empty",
    "drop",
    "wrong_id",
    "error",
)
SOCKET: Final = ("drop_ws", "skip_head", "repeat_head")

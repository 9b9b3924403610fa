"""Request in, answer out: the table of commands, and the envelope that every answer comes in.

Source: rippled `ServerHandler.cpp` (processSession), `RPCHandler.cpp`; the recorded pairs in
tests/data/xrpl-standalone/node-behaviour.json.gz and node-not-synced.json.gz.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from pipeline.recorded_node import ledger_commands, server_commands, state_commands
from pipeline.recorded_node.errors import Refusal
from pipeline.recorded_node.server_commands import Session
from pipeline.recorded_node.view import View

Json = dict[str, Any]
Command = Callable[[View, Mapping[str, Any], int], Json | bytes]

COMMANDS: Final[Mapping[str, Command]] = {
    "account_info": state_commands.account_info,
    "account_lines": state_commands.account_lines,
    "account_objects": state_commands.account_objects,
    "fee": server_commands.fee,
    "ledger": ledger_commands.ledger,
    "ledger_closed": ledger_commands.ledger_closed,
    "ledger_current": ledger_commands.ledger_current,
    "ledger_data": ledger_commands.ledger_data,
    "manifest": server_commands.manifest,
    "ping": server_commands.ping,
    "server_info": server_commands.server_info,
    "server_state": server_commands.server_state,
    "tx": ledger_commands.tx,
}
SESSION_COMMANDS: Final = {"subscribe": server_commands.subscribe, "unsubscribe": server_commands.unsubscribe}
NEED_A_LEDGER: Final = frozenset(("fee", "ledger_closed", "ledger_current", "submit", "tx"))
ADMIN_COMMANDS: Final = frozenset(
    ("can_delete", "connect", "ledger_accept", "ledger_cleaner", "ledger_request", "log_level", "logrotate", "peers",
     "print", "stop", "validation_create", "wallet_propose", "fetch_info", "consensus_info")
)  # fmt: skip
OTHER_COMMANDS: Final = frozenset(
    ("account_channels", "account_currencies", "account_nfts", "account_offers", "account_tx", "amm_info",
     "book_changes", "book_offers", "channel_verify", "deposit_authorized", "feature", "gateway_balances",
     "ledger_entry", "ledger_header", "nft_buy_offers", "nft_sell_offers", "noripple_check", "path_find", "random",
     "ripple_path_find", "server_definitions", "sign", "sign_for", "simulate", "submit", "submit_multisigned",
     "transaction_entry", "tx_history", "version", "vault_info")
)  # fmt: skip
REQUEST_BYTES_MAX: Final = 1_000_000
_API_VERSIONS: Final = (1, 2)
_LONG_NUMBER: Final = re.compile(rb"\d{10}")


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer in the making: the request (empty where it was none), and what goes into the envelope."""

    request: Mapping[str, Any]
    command: str
    result: Json | bytes | None
    error: Refusal | None = None
    raw: bytes | None = None  # the whole answer, where it has no envelope

    def serialised(self) -> bytes:
        """The message to send."""
        if self.raw is not None:
            return self.raw
        if self.error is not None:
            return refusal(self.request, self.error)
        result = self.result if isinstance(self.result, bytes) else orjson.dumps(self.result, option=_SORTED)
        head = b"".join(
            b'"%s":%s,' % (name.encode(), orjson.dumps(self.request[name]))
            for name in ("api_version", "id")
            if name in self.request
        )
        return b'{%s"result":%s,"status":"success","type":"response"}' % (head, result)


_SORTED: Final = orjson.OPT_SORT_KEYS


def answer(view: View, session: Session, message: str | bytes) -> Answer:
    """What the node answers to a message; subscriptions go into `session`."""
    text = message.encode() if isinstance(message, str) else message
    request = _parse(text)
    if request is None:
        return Answer({}, "", None, raw=_json_invalid(text))
    version = request.get("api_version", 1)
    if type(version) is not int or version not in _API_VERSIONS:
        return Answer(request, "", None, raw=_refused_before(request, "invalid_API_version"))
    command = request.get("command", request.get("method"))
    if not isinstance(command, str) or request.get("method", command) != command:
        return Answer(request, "", None, raw=_refused_before(request, "missingCommand"))
    try:
        return Answer(request, command, _run(view, session, command, request, version))
    except Refusal as error:
        return Answer(request, command, None, error)


def _run(view: View, session: Session, command: str, request: Json, version: int) -> Json | bytes:
    if command in ADMIN_COMMANDS:
        raise Refusal("forbidden")
    if not view.synced and command in NEED_A_LEDGER:
        raise Refusal("noNetwork" if version == 1 else "notSynced")
    if command in SESSION_COMMANDS:
        return SESSION_COMMANDS[command](view, session, request, version)
    if command in COMMANDS:
        return COMMANDS[command](view, request, version)
    raise Refusal("notImpl" if command in OTHER_COMMANDS else "unknownCmd")


def _parse(text: bytes) -> Json | None:
    """The request; None if the node's parser would refuse it: too long, no object, a number over 32 bits."""
    if len(text) > REQUEST_BYTES_MAX:
        return None
    try:
        request = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(request, dict) or (_LONG_NUMBER.search(text) and _too_big(request)):
        return None
    return request


def _too_big(value: object) -> bool:
    if isinstance(value, dict):
        return any(map(_too_big, value.values()))
    if isinstance(value, list):
        return any(map(_too_big, value))
    return isinstance(value, int) and not -(1 << 31) <= value < 1 << 32


def _json_invalid(text: bytes) -> bytes:
    value = text.decode("utf-8", "replace")
    return orjson.dumps({"error": "jsonInvalid", "type": "error", "value": value})


def _refused_before(request: Json, error: str) -> bytes:
    """An error found before any command was looked at: without a number."""
    body: Json = {"error": error, "request": request, "status": "error", "type": "response"}
    body.update({name: request[name] for name in ("api_version", "id") if name in request})
    return orjson.dumps(body, option=_SORTED)


def refusal(request: Mapping[str, Any], error: Refusal) -> bytes:
    """An error answer: the request is echoed in it."""
    body: Json = {
        **error.extra,
        "error": error.error,
        "error_code": error.code,
        "error_message": error.message,
        "request": request,
        "status": "error",
        "type": "response",
    }
    body.update({name: request[name] for name in ("api_version", "id") if name in request})
    return orjson.dumps(body, option=_SORTED)

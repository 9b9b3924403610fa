"""The commands about the node itself: server_info, server_state, ping, manifest, fee, subscribe, unsubscribe.

Source: rippled `NetworkOPs.cpp` (getServerInfo, subLedger, subServer), `Subscribe.cpp`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pipeline.domain.decode.xrpl_shapes import EPOCH_OFFSET_S
from pipeline.recorded_node.errors import Refusal, missing_field
from pipeline.recorded_node.validators import manifest_answer
from pipeline.recorded_node.view import BUILD_VERSION, View

Json = dict[str, Any]

NODE_KEY: Final = "n9Me6fcTe8aw8ye2wYmoy5VBwamVQ4JiJHZgZ5rADS95h9NAFx8V"
STREAMS: Final = frozenset(
    ("ledger", "transactions", "validations", "server", "manifests", "transactions_proposed", "rt_transactions",
     "book_changes", "consensus")
)  # fmt: skip
ADMIN_STREAMS: Final = frozenset(("peer_status",))
_UNSERVED: Final = ("accounts", "accounts_proposed", "books", "url")


@dataclass(slots=True)
class Session:
    """One connection as the answers know it."""

    streams: dict[str, int] = field(default_factory=dict)
    """Stream → api_version it was subscribed in."""


def server_info(view: View, params: Mapping[str, Any], api_version: int) -> Json:
    """`server_info`, for people: XRP and seconds."""
    info = _common(view)
    info["load_factor"] = 1
    xrp = {
        "base_fee_xrp": view.fees.base / 1e6,
        "reserve_base_xrp": _xrp(view.fees.reserve_base),
        "reserve_inc_xrp": _xrp(view.fees.reserve_inc),
    }
    info[_which(view)] = {**xrp, **_newest(view), "age": _age(view)}
    info["last_close"] = {"converge_time_s": 0.1, "proposers": _proposers(view)}
    return {"info": info}


def server_state(view: View, params: Mapping[str, Any], api_version: int) -> Json:
    """`server_state`, for programs: drops."""
    state = _common(view)
    state |= {"load_base": 256, "load_factor": 256, "load_factor_fee_escalation": 256,
              "load_factor_fee_queue": 256, "load_factor_fee_reference": 256, "load_factor_server": 256}  # fmt: skip
    drops = {
        "base_fee": view.fees.base,
        "reserve_base": view.fees.reserve_base,
        "reserve_inc": view.fees.reserve_inc,
    }
    state[_which(view)] = {**drops, **_newest(view), "close_time": _close_time(view)}
    state["last_close"] = {"converge_time": 100, "proposers": _proposers(view)}
    return {"state": state}


def _common(view: View) -> Json:
    up = max(0, int(view.now() - view.started_at))
    states = ("connected", "disconnected", "full", "syncing", "tracking")
    told: Json = {
        "build_version": BUILD_VERSION,
        "complete_ledgers": view.complete_ledgers(),
        "hostid": "PAN",
        "initial_sync_duration_us": "213911",
        "io_latency_ms": 1,
        "jq_trans_overflow": "0",
        "peer_disconnects": "0",
        "peer_disconnects_resources": "0",
        "peers": _proposers(view),
        "ports": [{"port": str(view.port), "protocol": ["ws"]}],
        "pubkey_node": NODE_KEY,
        "server_state": view.server_state,
        "server_state_duration_us": str(up * 1_000_000),
        "state_accounting": {
            name: {"duration_us": str(up * 1_000_000 if name == "full" else 0), "transitions": "1"}
            for name in states
        },
        "time": view.time_text(),
        "uptime": up,
        "validation_quorum": _quorum(view),
    }
    if view.shown_network_id is not None:
        told["network_id"] = view.shown_network_id
    return told


def _xrp(drops: int) -> int | float:
    return drops // 1_000_000 if drops % 1_000_000 == 0 else drops / 1e6


def _which(view: View) -> str:
    return "validated_ledger" if view.synced else "closed_ledger"


def _newest(view: View) -> Json:
    index = _newest_index(view)
    return {"hash": view.tape.hash_of(index), "seq": index}


def _newest_index(view: View) -> int:
    return view.validated() if view.synced else view.tape.order[0]


def _close_time(view: View) -> int:
    return view.tape.heads[_newest_index(view)].close_time


def _age(view: View) -> int:
    """Seconds since the newest ledger closed; a recording of old days is served as if it were new."""
    age = int(view.now() - EPOCH_OFFSET_S - _close_time(view))
    return age if 0 <= age < 60 else 0


def _proposers(view: View) -> int:
    return len(view.quorum.validators) if view.quorum else 0


def _quorum(view: View) -> int:
    return -(-_proposers(view) * 4 // 5)


def ping(view: View, params: Mapping[str, Any], api_version: int) -> Json:
    """`ping`."""
    return {}


def fee(view: View, params: Mapping[str, Any], api_version: int) -> Json:
    """`fee`: an idle node's."""
    base = str(view.fees.base)
    return {
        "current_ledger_size": "0",
        "current_queue_size": "0",
        "drops": {"base_fee": base, "median_fee": "5000", "minimum_fee": base, "open_ledger_fee": base},
        "expected_ledger_size": "32",
        "ledger_current_index": view.last + 1,
        "levels": {
            "median_level": "128000", "minimum_level": "256", "open_ledger_level": "256", "reference_level": "256",
        },
        "max_queue_size": "640",
    }  # fmt: skip


def manifest(view: View, params: Mapping[str, Any], api_version: int) -> Json:
    """`manifest` of a validator."""
    if not isinstance(params.get("public_key"), str):
        raise missing_field("public_key") if "public_key" not in params else Refusal("invalidParams")
    return manifest_answer(view.quorum, params)


def subscribe(view: View, session: Session, params: Mapping[str, Any], api_version: int) -> Json:
    """`subscribe`: streams named before a bad one stay subscribed."""
    answer: Json = {}
    for name in _streams(params):
        if name in ADMIN_STREAMS:
            raise Refusal("noPermission")
        if name not in STREAMS:
            raise Refusal("malformedStream")
        session.streams["transactions" if name == "rt_transactions" else name] = api_version
        if name == "ledger":
            answer |= _ledger_told(view)
        elif name == "server":
            answer |= {
                "load_base": 256,
                "load_factor": 256,
                "pubkey_node": NODE_KEY,
                "server_status": view.server_state,
            }
    return answer


def unsubscribe(view: View, session: Session, params: Mapping[str, Any], api_version: int) -> Json:
    """`unsubscribe`."""
    for name in _streams(params):
        if name not in STREAMS | ADMIN_STREAMS:
            raise Refusal("malformedStream")
        session.streams.pop("transactions" if name == "rt_transactions" else name, None)
    return {}


def _streams(params: Mapping[str, Any]) -> list[str]:
    if any(name in params for name in _UNSERVED):
        raise Refusal("notImpl")
    streams = params.get("streams", [])
    if not isinstance(streams, list):
        raise Refusal("invalidParams")
    if not all(isinstance(name, str) for name in streams):
        raise Refusal("malformedStream")
    return streams


def _ledger_told(view: View) -> Json:
    """The last validated ledger; what a node without one tells depends on how far it has come."""
    if not view.synced:
        return {} if view.server_state in ("disconnected", "connected") else {"validated_ledgers": "empty"}
    index = view.last
    return {
        "fee_base": view.fees.base,
        "ledger_hash": view.tape.hash_of(index),
        "ledger_index": index,
        "ledger_time": view.tape.heads[index].close_time,
        "network_id": view.shown_network_id or 0,
        "reserve_base": view.fees.reserve_base,
        "reserve_inc": view.fees.reserve_inc,
        "validated_ledgers": view.complete_ledgers(),
    }

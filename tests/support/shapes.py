"""The shapes in which nodes answer `ledger`, made from one another by rule.

Rules as in the recordings of one node in both API versions: version 1 writes a transaction's fields flat
beside `hash` and `metaData`, `ledger_index` of the header as text, and both Amount and DeliverMax in a
Payment. The 2015 shape besides lacks close_flags and parent_close_time and repeats some header fields.
"""

from __future__ import annotations

from tests.support.replay import Json


def as_api_version_1(answer: Json) -> Json:
    """An answer in API version 2 as the same node gives it in version 1."""
    ledger = answer["ledger"] | {"ledger_index": str(answer["ledger"]["ledger_index"])}
    ledger["transactions"] = [_flat(entry) for entry in answer["ledger"]["transactions"]]
    return answer | {"ledger": ledger}


def as_recorded_in_2015(answer: Json) -> Json:
    """An answer in API version 1 with the header of a 2015 recording."""
    old = answer["ledger"]
    ledger = {k: v for k, v in old.items() if k not in {"close_flags", "parent_close_time", "close_time_iso"}}
    ledger |= {
        "accepted": True,
        "hash": old["ledger_hash"],
        "seqNum": str(old["ledger_index"]),
        "totalCoins": old["total_coins"],
    }
    return answer | {"ledger": ledger}


def _flat(entry: Json) -> Json:
    transaction = dict(entry["tx_json"])
    if transaction["TransactionType"] == "Payment":
        transaction["Amount"] = transaction["DeliverMax"]
    return transaction | {"hash": entry["hash"], "metaData": entry["meta"]}

"""The roots of a recorded ledger, recomputed from what was recorded.

A ledger's header names two SHAMap roots: `transaction_hash` over its transactions with their metadata, and
`account_hash` over every entry of its state. Where a recording gives them in binary they are hashed as they
are; where it gives JSON, the canonical bytes are made again (xrpl_encode). A root that fits proves each of
them; one that does not, or bytes that cannot be made, prove nothing, and which of the two it is matters: the
first is a contradiction, the second only a limit of this recording.

Source: rippled `ledger/Ledger.cpp`, `shamap/SHAMapTreeNode.h` (leaf prefixes SND and MLN, inner prefix MIN).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from pipeline.domain.decode.xrpl_errors import NotExpanded
from pipeline.domain.decode.xrpl_shapes import split_ledger, unwrap
from pipeline.domain.proof_errors import Contradiction, Unprovable
from pipeline.domain.xrpl_encode import Unencodable, encode_entry, encode_metadata, encode_transaction
from pipeline.domain.xrpl_hash import TreeItem, transaction_id, transaction_tree_root
from pipeline.domain.xrpl_state_tree import OutOfOrder, StateTree

_OBJECTS: Final = ("tx_json", "tx", "transaction")
_METADATA: Final = ("meta", "metaData", "metadata", "meta_blob")


def transaction_root(recorded: object) -> str:
    """Root of the transaction tree of a recorded ledger in any shape, 64 upper-case hex digits.

    To be compared with the header's transaction_hash by the caller. Raises Unprovable where the recording
    lacks what it takes, Contradiction("transaction_id") where a stated hash is not that of its transaction,
    Contradiction("duplicate") where a transaction stands twice, and RecordedError where `recorded` is no
    validated ledger.
    """
    try:
        entries = split_ledger(recorded).transactions
    except NotExpanded as error:
        raise Unprovable(error.reason) from error
    items = [tree_item(entry) for entry in entries]
    hashes = {item[2] for item in items}
    if len(hashes) < len(items):
        raise Contradiction("duplicate", "a transaction stands twice in the ledger")
    return transaction_tree_root(items)


def tree_item(entry: object) -> TreeItem:
    """(transaction, metadata, id) of one recorded transaction, in canonical bytes. Raises as above.

    Where an entry holds several forms of one thing, the form proved is the one that `normalise_transaction`
    reads: a node that sends a sound blob beside an invented object must not get by.
    """
    body = unwrap(entry)
    shown: Any = next((body[key] for key in _OBJECTS if isinstance(body.get(key), Mapping)), None)
    blob = body.get("tx_blob") or body.get("tx")
    if shown is None:
        shown = blob if isinstance(blob, str) else body
    inside = shown if isinstance(shown, Mapping) else {}
    stated = body.get("hash") or inside.get("hash")
    where = f"transaction {stated or 'of unknown hash'}"
    held = (holder.get(key) for holder in (body, inside) for key in _METADATA)
    meta = next(
        (value for value in held if isinstance(value, Mapping) or (isinstance(value, str) and value)), None
    )
    if meta is None:
        raise Unprovable(f"{where} has no metadata")
    try:
        tx_blob = bytes.fromhex(shown) if isinstance(shown, str) else encode_transaction(shown)
        meta_blob = bytes.fromhex(meta) if isinstance(meta, str) else encode_metadata(meta)
    except Unencodable as error:
        raise Unprovable(f"{where} has no canonical form: {error}") from error
    except ValueError:
        raise Unprovable(f"{where} is not hex") from None
    found = transaction_id(tx_blob)
    if stated is not None and stated != found:
        raise Contradiction("transaction_id", f"{where} hashes to {found}")
    return tx_blob, meta_blob, found


def state_root(objects: Iterable[Mapping[str, Any]]) -> str:
    """Root of a ledger's state (account_hash), 64 upper-case hex digits, in any order.

    `objects` are all entries of all pages of `ledger_data` of one ledger: `{data, index}` in hex or JSON with
    `index`. Raises Unprovable where one has no index or no canonical form, Contradiction("duplicate") where
    an index stands twice. A state too large for memory goes through xrpl_state_tree in the order of its pages.
    """
    tree = StateTree()
    for index, body in sorted(map(state_item, objects)):
        try:
            tree.add(index, body)
        except OutOfOrder:
            raise Contradiction(
                "duplicate", f"entry {index.hex().upper()} stands twice in the state"
            ) from None
    return tree.root()


def state_item(entry: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """(index, canonical bytes) of one entry of the state. Raises Unprovable."""
    index = entry.get("index")
    data = entry.get("data")
    try:
        key = bytes.fromhex(index) if isinstance(index, str) else b""
        body = bytes.fromhex(data) if isinstance(data, str) else encode_entry(entry)
    except Unencodable as error:
        raise Unprovable(f"entry {index} has no canonical form: {error}") from error
    except ValueError:
        raise Unprovable(f"entry {index} is not hex") from None
    if len(key) != 32:
        raise Unprovable(f"an entry of the state has no index: {str(index)[:80]!r}")
    return key, body

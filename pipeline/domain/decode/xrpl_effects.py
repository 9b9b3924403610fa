"""What a transaction really did, from the AffectedNodes of its metadata by LedgerEntryType.

Never from TransactionType or Amount: a type that did not exist when this was written balances as well. How
the metadata tells a change (rippled, `ApplyStateTable`): CreatedNode.NewFields without fields at their
default; ModifiedNode.FinalFields and, in PreviousFields, the old values of what changed; DeletedNode with the
last state in FinalFields and old values in PreviousFields. Native coins live in AccountRoot, Escrow and
PayChannel; what these do not explain of -fee is `unexplained` and put to an entry of unknown type.
"""

from collections.abc import Callable, Mapping
from typing import Any

from pipeline.domain.amount import format_decimal, negate, parse_decimal
from pipeline.domain.decode import xrpl_mpt
from pipeline.domain.decode.xrpl_amounts import NATIVE, drops
from pipeline.domain.decode.xrpl_nfts import NftOwners
from pipeline.domain.decode.xrpl_objects import ENTRIES, native_fields, object_row, unknown_row

Node = Mapping[str, Any]

ACTIONS = {"CreatedNode": "created", "ModifiedNode": "modified", "DeletedNode": "deleted"}

# Entry types that hold no value and are no right of anybody; directories and bookkeeping of the network.
SILENT = (
    "DirectoryNode",
    "LedgerHashes",
    "FeeSettings",
    "Amendments",
    "NegativeUNL",
    "GeneratorMap",
    "Hook",
    "HookDefinition",
    "HookState",
    "EmittedTxn",
    "UNLReport",
    "ImportVLSequence",
)

_PARTS = ("NewFields", "FinalFields", "PreviousFields")

NODE_ERRORS = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)


class Effects:
    """Effects gathered node by node; rows in the shapes of schemas/xrpl/ledgers.avsc."""

    __slots__ = ("balance_changes", "errors", "mpts", "native", "nfts", "object_changes", "unknown")

    def __init__(self) -> None:
        self.balance_changes: list[dict[str, Any]] = []
        self.object_changes: list[dict[str, Any]] = []
        self.nfts: NftOwners | None = None
        self.mpts: list[xrpl_mpt.Entry] = []
        self.unknown: list[tuple[dict[str, Any], str, Node]] = []
        self.native = 0  # sum of the native changes of all that is known to hold native coins, drops
        self.errors: list[str] = []


def read_effects(meta: Mapping[str, Any]) -> Effects:
    """Effects of one transaction. A node that can't be read is left out and told in `errors`."""
    effects = Effects()
    nodes = meta.get("AffectedNodes")
    if not isinstance(nodes, list):
        effects.errors.append("AffectedNodes is not a list")
        return effects
    for number, wrapped in enumerate(nodes):
        try:
            ((key, node),) = wrapped.items()
            kind = node["LedgerEntryType"]
            reader = READERS.get(kind, _unknown)
            if reader is not None:
                reader(effects, ACTIONS[key], node)
        except NODE_ERRORS as error:
            effects.errors.append(f"AffectedNodes[{number}]: {type(error).__name__}: {str(error)[:200]}")
    if any(row["held_asset"] not in (None, NATIVE) for row in effects.object_changes):
        _release_what_lines_hold(effects, nodes)
    if effects.mpts:
        xrpl_mpt.decide(effects.mpts)
        rows = (xrpl_mpt.balance_row(entry) for entry in effects.mpts)
        effects.balance_changes.extend(row for row in rows if row is not None)
    return effects


def _release_what_lines_hold(effects: Effects, nodes: list[Any]) -> None:
    """Xahau locks an escrowed issued currency on the trust line (LockedBalance) and leaves it in the line's
    Balance: there the escrow or channel itself holds nothing.
    """
    bodies = [node for wrapped in nodes if isinstance(wrapped, Mapping) for node in wrapped.values()]
    fields = [node.get(part) for node in bodies if isinstance(node, Mapping) for part in _PARTS]
    if any(isinstance(part, Mapping) and "LockedBalance" in part for part in fields):
        for row in effects.object_changes:
            if row["held_asset"] != NATIVE:
                row["held_asset"], row["held_before"], row["held_after"] = None, "0", "0"


def mpt_rows(effects: Effects) -> list[dict[str, Any]]:
    """MptChange rows; entries that were only flagged or threaded are left out."""
    rows = []
    for entry in effects.mpts:
        moved = any(field.change for field in entry.fields.values())
        if moved or entry.ambiguous or entry.action != "modified":
            rows.append(xrpl_mpt.change_row(entry))
    return rows


def attribute_unexplained(effects: Effects, unexplained: int) -> tuple[str | None, str | None]:
    """(LedgerIndex, LedgerEntryType) of the unknown entry that gained `unexplained` drops; (None, None) if
    no unknown entry was touched. That entry's row gets what it holds, where one of its fields says so.
    """
    candidates = sorted(effects.unknown, key=lambda item: str(item[0]["entry_id"]))
    for row, action, node in candidates:
        for before, after in native_fields(action, node).values():
            if after - before == unexplained:
                row["held_asset"] = NATIVE
                row["held_before"], row["held_after"] = str(before), str(after)
                return row["entry_id"], row["entry_type"]
    if not candidates:
        return None, None
    row = candidates[0][0]
    return row["entry_id"], row["entry_type"]


def _account_root(effects: Effects, action: str, node: Node) -> None:
    if action == "modified":
        previous = node.get("PreviousFields")
        if not previous or "Balance" not in previous:
            return
        fields = node["FinalFields"]
        before, after = drops(previous["Balance"]), drops(fields["Balance"])
    elif action == "created":
        fields = node["NewFields"]
        before, after = 0, drops(fields.get("Balance", "0"))
    else:
        fields = node["FinalFields"]
        previous = node.get("PreviousFields") or {}
        before, after = drops(previous["Balance"] if "Balance" in previous else fields["Balance"]), 0
    change = after - before
    if change:
        account = _text(fields["Account"])
        effects.native += change
        effects.balance_changes.append(
            {
                "account": account,
                "asset": NATIVE,
                "change": str(change),
                "previous": str(before),
                "balance": str(after),
            }
        )


def _ripple_state(effects: Effects, action: str, node: Node) -> None:
    """A trust line: the low account's balance, so two rows, one from each side."""
    if action == "created":
        fields = node["NewFields"]
        before, after = "0", fields["Balance"]["value"]
    else:
        previous = node.get("PreviousFields")
        if previous and "Balance" in previous:
            fields = node["FinalFields"]
            before, after = previous["Balance"]["value"], fields["Balance"]["value"]
        elif action == "modified":
            return
        else:
            fields = node["FinalFields"]
            before = fields["Balance"]["value"]
        if action == "deleted":
            after = "0"
    a, a_exponent = parse_decimal(after)
    b, b_exponent = parse_decimal(before)
    if a_exponent > b_exponent:
        moved, exponent = a * 10 ** (a_exponent - b_exponent) - b, b_exponent
    else:
        moved, exponent = a - b * 10 ** (b_exponent - a_exponent), a_exponent
    if not moved:
        return
    change = format_decimal(moved, exponent)
    before, after = format_decimal(b, b_exponent), format_decimal(a, a_exponent)
    currency = _text(fields["Balance"]["currency"])
    low, high = _text(fields["LowLimit"]["issuer"]), _text(fields["HighLimit"]["issuer"])
    effects.balance_changes += (
        {
            "account": low,
            "asset": f"{currency}.{high}",
            "change": change,
            "previous": before,
            "balance": after,
        },
        {
            "account": high,
            "asset": f"{currency}.{low}",
            "change": negate(change),
            "previous": negate(before),
            "balance": negate(after),
        },
    )


def _nftoken_page(effects: Effects, action: str, node: Node) -> None:
    if effects.nfts is None:
        effects.nfts = NftOwners()
    effects.nfts.page(action, node)


def _mptoken(effects: Effects, action: str, node: Node) -> None:
    if "FinalFields" in node or "NewFields" in node:
        effects.mpts.append(xrpl_mpt.read_holder(action, node))


def _mptoken_issuance(effects: Effects, action: str, node: Node) -> None:
    if "FinalFields" in node or "NewFields" in node:
        effects.mpts.append(xrpl_mpt.read_issuance(action, node))


def _object(effects: Effects, action: str, node: Node) -> None:
    if action == "modified" and "PreviousFields" not in node:
        return  # only its thread (PreviousTxnID) moved on
    row = object_row(node["LedgerEntryType"], action, node)
    if row["held_asset"] == NATIVE:
        effects.native += int(row["held_after"]) - int(row["held_before"])
    effects.object_changes.append(row)


def _unknown(effects: Effects, action: str, node: Node) -> None:
    row = unknown_row(_text(node["LedgerEntryType"]), action, node)
    effects.object_changes.append(row)
    effects.unknown.append((row, action, node))


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    raise ValueError(f"not a string: {str(value)[:80]!r}")


Reader = Callable[[Effects, str, Node], None]

READERS: dict[Any, Reader | None] = {
    **dict.fromkeys(SILENT, None),
    **dict.fromkeys(ENTRIES, _object),
    "AccountRoot": _account_root,
    "RippleState": _ripple_state,
    "NFTokenPage": _nftoken_page,
    "MPToken": _mptoken,
    "MPTokenIssuance": _mptoken_issuance,
}

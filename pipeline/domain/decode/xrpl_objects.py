"""Changes of ledger entries that hold or promise value or record a right.

ENTRIES lists the entry types known here with the fields that tell owner, amounts and what they are about;
a type that is not listed passes through with the fields that such entries usually have. An entry *holds*
value only if the value left an account for it: XRP and issued currencies in Escrow, XRP in PayChannel. An
MPT escrow holds nothing itself (MPToken.LockedAmount does). Offers, checks and NFT offers only promise.

Where a deleted entry's last state stands: `FinalFields`, or `PreviousFields` for what this transaction
changed before it deleted the entry.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.domain.amount import plain, subtract
from pipeline.domain.decode.xrpl_amounts import amount_value, asset_key, drops

ZERO = "0"


@dataclass(frozen=True, slots=True)
class Entry:
    """Names of the fields of one entry type; "" = it has none."""

    owner: str = "Account"
    destination: str = ""
    amount: str = ""
    number: str = ""  # in place of `amount`: a bare number, whose asset is named by `asset` or elsewhere
    asset: str = ""
    balance: str = ""
    counter: str = ""
    reference: str = ""
    holds: bool = False
    default: str = ""  # amount where the field is absent, being at its default


ENTRIES: Mapping[str, Entry] = {
    "Offer": Entry(amount="TakerGets", counter="TakerPays"),
    "NFTokenOffer": Entry(
        owner="Owner", destination="Destination", amount="Amount", reference="NFTokenID", default=ZERO
    ),
    "Escrow": Entry(destination="Destination", amount="Amount", holds=True),
    "PayChannel": Entry(
        destination="Destination", amount="Amount", balance="Balance", holds=True, default=ZERO
    ),
    "Check": Entry(destination="Destination", amount="SendMax"),
    "AMM": Entry(amount="LPTokenBalance"),
    "Vault": Entry(owner="Owner", number="AssetsTotal", asset="Asset", reference="ShareMPTID"),
    "LoanBroker": Entry(owner="Owner", number="DebtTotal", reference="VaultID"),
    "Loan": Entry(owner="Borrower", number="PrincipalOutstanding", reference="LoanBrokerID"),
    "Bridge": Entry(),
    "XChainOwnedClaimID": Entry(),
    "XChainOwnedCreateAccountClaimID": Entry(),
    "XChainClaimID": Entry(),
    "Ticket": Entry(),
    "SignerList": Entry(owner="Account"),
    "DepositPreauth": Entry(destination="Authorize"),
    "Delegate": Entry(destination="Authorize"),
    "Credential": Entry(owner="Issuer", destination="Subject", reference="CredentialType"),
    "PermissionedDomain": Entry(owner="Owner"),
    "DID": Entry(),
    "Oracle": Entry(owner="Owner"),
    "URIToken": Entry(owner="Owner", destination="Destination", amount="Amount"),
}

# What an entry of unknown type is asked for.
_OWNERS = ("Account", "Owner", "Sponsor", "Borrower", "Issuer")


def object_row(kind: str, action: str, node: Mapping[str, Any]) -> dict[str, Any]:
    """ObjectChange row of schemas/xrpl/ledgers.avsc for an entry of a type listed in ENTRIES."""
    entry = ENTRIES[kind]
    previous, fields = _states(action, node)
    shown = {**fields, **previous} if action == "deleted" else fields
    row = _row(kind, action, node, fields.get(entry.owner), fields.get(entry.destination))
    amount = shown.get(entry.amount, entry.default or None) if entry.amount else None
    if amount is not None:
        row["asset"], row["amount"] = asset_key(amount), amount_value(amount)
    if entry.number:
        row["amount"] = plain(shown.get(entry.number, ZERO))
        row["asset"] = asset_key(fields[entry.asset]) if entry.asset in fields else None
    if entry.balance:
        row["balance"] = amount_value(shown.get(entry.balance, ZERO))
    if entry.counter and entry.counter in shown:
        row["counter_asset"] = asset_key(shown[entry.counter])
        row["counter_amount"] = amount_value(shown[entry.counter])
    row["reference"] = _text_or_none(fields.get(entry.reference))
    if entry.holds and amount is not None:
        _put_held(row, action, entry, previous, fields)
    return row


def unknown_row(kind: str, action: str, node: Mapping[str, Any]) -> dict[str, Any]:
    """ObjectChange row for an entry of a type not known here."""
    previous, fields = _states(action, node)
    owner = next((fields[name] for name in _OWNERS if isinstance(fields.get(name), str)), None)
    row = _row(kind, action, node, owner, fields.get("Destination"))
    amount = {**fields, **previous}.get("Amount") if action == "deleted" else fields.get("Amount")
    try:
        row["asset"], row["amount"] = asset_key(amount), amount_value(amount)
    except (LookupError, TypeError, ValueError):
        row["asset"] = row["amount"] = None
    return row


def native_fields(action: str, node: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """{field: (drops before, drops after)} of the fields of digits of an entry of unknown type that may have
    changed. A field absent from PreviousFields may have been absent (0) before as well as unchanged; it is
    given here as having been 0: the caller looks for a change it knows.
    """
    previous, fields = _states(action, node)
    changed = {}
    for name in sorted(previous.keys() | fields.keys()):
        kept = fields.get(name, ZERO) if action == "deleted" else ZERO
        try:
            before, after = drops(previous.get(name, kept)), drops(fields.get(name, ZERO))
        except ValueError:
            continue
        if action == "deleted":
            after = 0
        if before != after:
            changed[name] = (before, after)
    return changed


def _states(action: str, node: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """(PreviousFields, NewFields or FinalFields)."""
    previous = {} if action == "created" else node.get("PreviousFields") or {}
    fields = node.get("NewFields" if action == "created" else "FinalFields") or {}
    if not isinstance(previous, Mapping) or not isinstance(fields, Mapping):
        raise ValueError("fields are not an object")
    return previous, fields


def _row(kind: str, action: str, node: Mapping[str, Any], owner: Any, destination: Any) -> dict[str, Any]:
    entry_id = node["LedgerIndex"]
    if not isinstance(entry_id, str):
        raise ValueError("LedgerIndex is not a string")
    return {
        "entry_type": kind,
        "entry_id": entry_id,
        "action": action,
        "owner": _text_or_none(owner),
        "destination": _text_or_none(destination),
        "asset": None,
        "amount": None,
        "balance": None,
        "counter_asset": None,
        "counter_amount": None,
        "reference": None,
        "held_asset": None,
        "held_before": ZERO,
        "held_after": ZERO,
    }


def _text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _put_held(
    row: dict[str, Any],
    action: str,
    entry: Entry,
    previous: Mapping[str, Any],
    fields: Mapping[str, Any],
) -> None:
    if row["asset"].startswith("mpt:"):
        return
    row["held_asset"] = row["asset"]
    if action != "created":
        row["held_before"] = _held({**fields, **previous}, entry)
    if action != "deleted":
        row["held_after"] = _held(fields, entry)


def _held(fields: Mapping[str, Any], entry: Entry) -> str:
    amount = amount_value(fields.get(entry.amount, ZERO))
    if not entry.balance:
        return amount
    return subtract(amount, amount_value(fields.get(entry.balance, ZERO)))

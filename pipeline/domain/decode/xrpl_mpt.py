"""MPTs: changes of holders (MPToken) and issuances (MPTokenIssuance).

rippled leaves a field at its default 0 out of an entry, so MPTAmount and LockedAmount missing from a modified
entry's PreviousFields mean "unchanged" or "was 0". What was is decided per issuance, in this order, until one
reading is left:

1. sum of the changes of (amount + locked) of the holders = change of OutstandingAmount - change of
   ConfidentialOutstandingAmount. OutstandingAmount is a required field: missing = unchanged.
2. sum of the changes of locked of the holders = change of the issuance's LockedAmount.
3. PreviousFields itself: rippled writes it, even empty ({}), as soon as any field changed, and leaves it out
   where none did.

A field on which all readings left agree is decided. The others, and all if no reading is left, are taken as
unchanged and their rows marked `ambiguous`.
"""

from collections.abc import Mapping
from itertools import product
from typing import Any

from pipeline.domain.decode.xrpl_address import decode_account, encode_account
from pipeline.domain.decode.xrpl_amounts import units

OPEN_MAX = 12  # undecided fields of one issuance that are tried out; more stay ambiguous


class Field:
    """One amount of one entry: its value after, and its possible values before (the first = unchanged)."""

    __slots__ = ("after", "before", "open")

    def __init__(self, name: str, action: str, node: Mapping[str, Any]) -> None:
        self.open: tuple[int, ...] = ()
        if action == "created":
            self.before, self.after = 0, units((node.get("NewFields") or {}).get(name, "0"))
            return
        final = units((node.get("FinalFields") or {}).get(name, "0"))
        previous = (node.get("PreviousFields") or {}).get(name)
        self.after = final if action == "modified" else 0
        self.before = final if previous is None else units(previous)
        if previous is None and final:
            self.open = (final, 0)

    @property
    def change(self) -> int:
        return self.after - self.before


class Entry:
    """An MPToken (with `account`) or MPTokenIssuance node with its amounts."""

    __slots__ = ("account", "action", "ambiguous", "fields", "issuance", "previous")

    def __init__(self, issuance: str, account: str | None, action: str, node: Mapping[str, Any]) -> None:
        self.issuance, self.account, self.action = issuance, account, action
        self.previous = node.get("PreviousFields")
        self.ambiguous = False
        names = HOLDER_FIELDS if account is not None else ISSUANCE_FIELDS
        self.fields = {name: Field(name, action, node) for name in names}
        if account is None:
            self.fields["OutstandingAmount"].open = ()


HOLDER_FIELDS = ("MPTAmount", "LockedAmount")
ISSUANCE_FIELDS = ("OutstandingAmount", "LockedAmount", "ConfidentialOutstandingAmount")


def read_holder(action: str, node: Mapping[str, Any]) -> Entry:
    """An MPToken node. LookupError, TypeError or ValueError if it is malformed."""
    fields = node["NewFields" if action == "created" else "FinalFields"]
    issuance, account = fields["MPTokenIssuanceID"], fields["Account"]
    if not isinstance(account, str):
        raise ValueError("Account is not a string")
    encode_account(issuance[8:])
    return Entry(issuance, account, action, node)


def read_issuance(action: str, node: Mapping[str, Any]) -> Entry:
    """An MPTokenIssuance node; its id is Sequence (32 bits) and Issuer (160 bits)."""
    fields = node["NewFields" if action == "created" else "FinalFields"]
    sequence = int(fields.get("Sequence", 0))
    if not 0 <= sequence < 2**32:
        raise ValueError(f"Sequence out of range: {sequence}")
    return Entry(f"{sequence:08X}{decode_account(fields['Issuer'])}", None, action, node)


def decide(entries: list[Entry]) -> None:
    """Settles what each open field was before, by the conservation rules above; marks what stays open."""
    by_issuance: dict[str, list[Entry]] = {}
    for entry in entries:
        by_issuance.setdefault(entry.issuance, []).append(entry)
    for group in by_issuance.values():
        if any(field.open for entry in group for field in entry.fields.values()):
            _decide_issuance(group)


def _decide_issuance(group: list[Entry]) -> None:
    undecided = [field for entry in group for field in entry.fields.values() if field.open]
    if len(undecided) > OPEN_MAX:
        undecided = _without_untouched(group)
    readings = _readings(group, undecided) if len(undecided) <= OPEN_MAX else []
    for number, field in enumerate(undecided):
        values = {reading[number] for reading in readings}
        if len(values) == 1:
            field.before = values.pop()
            field.open = ()
    for entry in group:
        entry.ambiguous = any(field in undecided for field in entry.fields.values() if field.open)


def _without_untouched(group: list[Entry]) -> list[Field]:
    """Open fields of the entries that have PreviousFields at all (rule 3)."""
    return [f for entry in group if entry.previous is not None for f in entry.fields.values() if f.open]


def _readings(group: list[Entry], undecided: list[Field]) -> list[tuple[int, ...]]:
    """The readings (values before, one an open field) that the rules leave; [] if rule 1 leaves none."""
    readings = [
        reading
        for reading in product(*(field.open for field in undecided))
        if _holds(group, undecided, reading, _supply_conserved)
    ]
    for rule in (_locked_conserved, _previous_fields_agree):
        if len(readings) > 1:
            kept = [reading for reading in readings if _holds(group, undecided, reading, rule)]
            readings = kept or readings
    return readings


def _holds(group: list[Entry], undecided: list[Field], reading: tuple[int, ...], rule: Any) -> bool:
    for field, before in zip(undecided, reading, strict=True):
        field.before = before
    held: bool = rule(group)
    for field in undecided:
        field.before = field.open[0]
    return held


def _supply_conserved(group: list[Entry]) -> bool:
    holders = issued = 0
    for entry in group:
        fields = entry.fields
        if entry.account is not None:
            holders += fields["MPTAmount"].change + fields["LockedAmount"].change
        else:
            issued += fields["OutstandingAmount"].change - fields["ConfidentialOutstandingAmount"].change
    return holders == issued


def _locked_conserved(group: list[Entry]) -> bool:
    signs = ((1 if entry.account is not None else -1, entry.fields["LockedAmount"].change) for entry in group)
    return sum(sign * change for sign, change in signs) == 0


def _previous_fields_agree(group: list[Entry]) -> bool:
    for entry in group:
        changed = any(field.open and field.before != field.open[0] for field in entry.fields.values())
        if entry.previous is None and changed:
            return False
        if entry.previous is not None and not entry.previous and entry.action == "modified" and not changed:
            return False
    return True


def change_row(entry: Entry) -> dict[str, Any]:
    """MptChange row of schemas/xrpl/ledgers.avsc."""
    amount, locked = entry.fields.get("MPTAmount"), entry.fields["LockedAmount"]
    outstanding = entry.fields.get("OutstandingAmount")
    return {
        "issuance": entry.issuance,
        "account": entry.account,
        "issuer": encode_account(entry.issuance[8:]),
        "action": entry.action,
        "change": str(amount.change) if amount else "0",
        "locked_change": str(locked.change),
        "outstanding_change": str(outstanding.change) if outstanding else "0",
        "amount": str(amount.after) if amount else "0",
        "locked": str(locked.after),
        "outstanding": str(outstanding.after) if outstanding else "0",
        "ambiguous": entry.ambiguous,
    }


def balance_row(entry: Entry) -> dict[str, str] | None:
    """BalanceChange row of a holder whose MPTAmount changed, else None."""
    amount = entry.fields.get("MPTAmount")
    if amount is None or entry.account is None or not amount.change:
        return None
    return {
        "account": entry.account,
        "asset": f"mpt:{entry.issuance}",
        "change": str(amount.change),
        "previous": str(amount.before),
        "balance": str(amount.after),
    }

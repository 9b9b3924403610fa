"""State of a made-up XRP Ledger chain, and the metadata that a transaction on it leaves behind.

A `Change` collects what one transaction does to ledger entries, however often it touches one, and writes it
as the node does: CreatedNode.NewFields without fields at their default, ModifiedNode with FinalFields and
the changed values in PreviousFields (nothing there for a field that did not exist), DeletedNode with the
last fields, the thread of PreviousTxnID through every entry. Shapes follow pipeline/recordings.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable
from typing import Any, Final, Generic, TypeVar

from xrpl.core.addresscodec import encode_classic_address

Fields = dict[str, Any]
Item = TypeVar("Item")

LOW_RESERVE: Final = 0x0001_0000
RESERVE: Final = 10_000_000
"""Drops that nobody spends here, so that every fee can be paid."""


def digest(data: bytes) -> str:
    """SHA-512Half as 64 upper-case hex digits."""
    return hashlib.sha512(data).digest()[:32].hex().upper()


def keylet(space: str, *parts: bytes) -> str:
    """Index of a ledger entry: hash of its key space and what identifies it there."""
    return digest(b"\0" + space.encode() + b"".join(parts))


def text_of(units: int, scale: int) -> str:
    """`units` of 10^-scale as the plain decimal text that a node writes."""
    if scale == 0:
        return str(units)
    whole, rest = divmod(abs(units), 10**scale)
    fraction = f"{rest:0{scale}d}".rstrip("0")
    return f"{'-' if units < 0 else ''}{whole}{'.' if fraction else ''}{fraction}"


class Bag(Generic[Item]):
    """A collection with removal and random choice in constant time; deterministic."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self._place: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self.items)

    def add(self, item: Item) -> None:
        self._place[id(item)] = len(self.items)
        self.items.append(item)

    def remove(self, item: Item) -> None:
        place = self._place.pop(id(item))
        last = self.items.pop()
        if last is not item:
            self.items[place] = last
            self._place[id(last)] = place

    def pick(self, rng: random.Random) -> Item | None:
        return self.items[int(rng.random() * len(self.items))] if self.items else None


class Entry:
    """A ledger entry and the last transaction that touched it."""

    __slots__ = ("fields", "index", "kind", "txn_id", "txn_ledger")

    def __init__(self, kind: str, index: str, fields: Fields) -> None:
        self.kind = kind
        self.index = index
        self.fields = fields
        self.txn_id = ""
        self.txn_ledger = 0


class Account:
    """An account: its root entry, and what it owns."""

    __slots__ = (
        "address", "balance", "directory", "entries", "first_nft", "id", "lines", "minted", "nfts",
        "owned", "page", "public_key", "root", "sequence", "tokens",
    )  # fmt: skip

    def __init__(self, account_id: bytes) -> None:
        self.id = account_id
        self.address: str = encode_classic_address(account_id)
        self.public_key = "ED" + digest(b"key" + account_id)
        self.root = Entry("AccountRoot", keylet("a", account_id), {"Account": self.address, "Flags": 0})
        self.balance = 0
        self.sequence = 1
        self.owned = 0
        """OwnerCount."""
        self.entries = 0
        self.directory: Entry | None = None
        self.lines: dict[Currency, Line] = {}
        self.nfts: list[Nft] = []
        self.page: Entry | None = None
        self.first_nft = self.minted = 0
        self.tokens: dict[str, Holding] = {}

    @property
    def spendable(self) -> int:
        """Drops above the reserve, at least 0."""
        return max(0, self.balance - RESERVE)


class Currency:
    """An issued currency, whose amounts here are integers of 10^-scale."""

    def __init__(self, code: str, issuer: Account, scale: int) -> None:
        self.code = code
        self.issuer = issuer
        self.scale = scale
        self.lines: Bag[Line] = Bag()
        self.offers: dict[bool, Bag[Offer]] = {True: Bag(), False: Bag()}
        self.code_bytes = bytes.fromhex(code) if len(code) == 40 else bytes(12) + code.encode() + bytes(5)

    def amount(self, units: int, issuer: str | None = None) -> Fields:
        """The JSON amount of some units."""
        issuer = issuer or self.issuer.address
        return {"currency": self.code, "issuer": issuer, "value": text_of(units, self.scale)}


class Line:
    """A trust line between a holder and the issuer; `held` is what the holder is owed, in units."""

    __slots__ = ("currency", "entry", "held", "holder", "limit", "sign")

    def __init__(self, holder: Account, currency: Currency, limit: int) -> None:
        issuer = currency.issuer
        low, high = (holder, issuer) if holder.id < issuer.id else (issuer, holder)
        self.holder = holder
        self.currency = currency
        self.limit = limit
        self.held = 0
        self.sign = 1 if low is holder else -1
        sides = {
            "LowLimit": currency.amount(limit if low is holder else 0, low.address),
            "HighLimit": currency.amount(limit if high is holder else 0, high.address),
        }
        index = keylet("r", low.id, high.id, currency.code_bytes)
        flags = LOW_RESERVE if low is holder else LOW_RESERVE << 1
        self.entry = Entry("RippleState", index, {"Balance": self.balance(), "Flags": flags, **sides})
        self.entry.fields |= {"HighNode": "0", "LowNode": "0"}

    def balance(self) -> Fields:
        """Balance as the low account sees it."""
        return self.currency.amount(self.sign * self.held, "rrrrrrrrrrrrrrrrrrrrBZbvji")


class Offer:
    """A resting offer of `units` of a currency (gives_issued) or of XRP for it, at `price` drops a unit."""

    __slots__ = ("currency", "directory", "entry", "gives_issued", "owner", "price", "units")

    def __init__(
        self, owner: Account, currency: Currency, gives_issued: bool, price: int, units: int
    ) -> None:
        self.owner = owner
        self.currency = currency
        self.gives_issued = gives_issued
        self.price = price
        self.units = units
        self.entry: Entry | None = None
        self.directory: Entry | None = None

    def sides(self) -> Fields:
        """What a taker gets and pays, as it stands."""
        issued, drops = self.currency.amount(self.units), str(self.units * self.price)
        gets, pays = (issued, drops) if self.gives_issued else (drops, issued)
        return {"TakerGets": gets, "TakerPays": pays}


class Nft:
    """A token, its owner, and the sell offer for it, if any."""

    __slots__ = ("directory", "nft_id", "offer", "owner", "price", "uri")

    def __init__(self, nft_id: str, owner: Account, uri: str) -> None:
        self.nft_id = nft_id
        self.owner = owner
        self.uri = uri
        self.price = 0
        self.offer: Entry | None = None
        self.directory: Entry | None = None


class Issuance:
    """An MPT issuance and those who hold it."""

    def __init__(self, issuer: Account, issuance_id: str, entry: Entry) -> None:
        self.issuer = issuer
        self.issuance_id = issuance_id
        self.entry = entry
        self.outstanding = 0
        self.holdings: Bag[Holding] = Bag()


class Holding:
    """What one account holds of one issuance."""

    __slots__ = ("amount", "entry", "holder", "issuance")

    def __init__(self, holder: Account, issuance: Issuance, entry: Entry) -> None:
        self.holder = holder
        self.issuance = issuance
        self.entry = entry
        self.amount = 0


class Change:
    """What one transaction does to the ledger's entries, and its metadata."""

    def __init__(self, txn_id: str, ledger_index: int, sequence: int) -> None:
        self.txn_id = txn_id
        self.ledger_index = ledger_index
        self.sequence = sequence
        self._kinds: dict[str, str] = {}
        self._entries: dict[str, Entry] = {}
        self._before: dict[str, Fields] = {}
        self._accounts: dict[str, Account] = {}

    # Single entries.

    def create(self, entry: Entry) -> None:
        """The entry comes to be with the fields it has."""
        self._kinds[entry.index] = "CreatedNode"
        self._entries[entry.index] = entry

    def touch(self, entry: Entry) -> None:
        """The entry is modified without a visible change (a directory's list of entries is not shown)."""
        if entry.index not in self._kinds:
            self._kinds[entry.index] = "ModifiedNode"
            self._entries[entry.index] = entry

    def thread(self, entry: Entry) -> None:
        """Only the thread of transactions passes through the entry: a ModifiedNode without fields."""
        if entry.index not in self._kinds:
            self._kinds[entry.index] = "thread"
            self._entries[entry.index] = entry

    def put(self, entry: Entry, **changes: Any) -> None:
        """Set fields; None removes one."""
        if self._kinds.get(entry.index) in (None, "thread"):
            self._kinds[entry.index] = "ModifiedNode"
            self._entries[entry.index] = entry
        before = self._before.setdefault(entry.index, {})
        for name, value in changes.items():
            before.setdefault(name, entry.fields.get(name))
            if value is None:
                entry.fields.pop(name, None)
            else:
                entry.fields[name] = value

    def delete(self, entry: Entry) -> None:
        """The entry goes; it must have existed before this transaction."""
        self._kinds[entry.index] = "DeletedNode"
        self._entries[entry.index] = entry

    # Accounts and what they own.

    def pay(self, account: Account, drops: int) -> None:
        """Change an account's XRP."""
        account.balance += drops
        self._accounts[account.address] = account

    def own(self, account: Account, count: int = 1) -> None:
        """An entry joins the account's directory and counts for its reserve (or not: count 0)."""
        account.entries += 1
        if account.directory is None:
            index = keylet("O", account.id)
            fields = {"Flags": 0, "Owner": account.address, "RootIndex": index}
            account.directory = Entry("DirectoryNode", index, fields)
            self.create(account.directory)
        else:
            self.touch(account.directory)
        self.count(account, count)

    def disown(self, account: Account, count: int = 1) -> None:
        """An entry leaves the account's directory; an empty directory is kept, as an issuer's mostly is."""
        account.entries -= 1
        assert account.directory is not None
        self.touch(account.directory)
        self.count(account, -count)

    def count(self, account: Account, by: int) -> None:
        """Change OwnerCount."""
        if by:
            account.owned += by
            self._accounts[account.address] = account

    # The metadata.

    def metadata(self, place: int, result: str) -> Fields:
        """Write the accounts back, close the change, and return its metadata."""
        for account in self._accounts.values():
            self.put(
                account.root,
                Balance=str(account.balance),
                OwnerCount=account.owned,
                Sequence=account.sequence,
            )
        nodes = [self._node(index) for index in sorted(self._kinds)]
        return {"AffectedNodes": nodes, "TransactionIndex": place, "TransactionResult": result}

    def _node(self, index: str) -> Fields:
        kind, entry = self._kinds[index], self._entries[index]
        node: Fields = {"LedgerEntryType": entry.kind, "LedgerIndex": index}
        thread: Fields = {"PreviousTxnID": entry.txn_id, "PreviousTxnLgrSeq": entry.txn_ledger}
        if not entry.txn_id:  # the genesis account, made by no transaction
            thread = {}
        entry.txn_id, entry.txn_ledger = self.txn_id, self.ledger_index
        if kind == "CreatedNode":
            return {kind: node | {"NewFields": {k: v for k, v in entry.fields.items() if v not in (0, "0")}}}
        if kind == "thread":
            return {"ModifiedNode": node | thread}
        previous = self._previous(index, entry)
        if previous:
            node["PreviousFields"] = previous
        if kind == "DeletedNode":
            return {kind: node | {"FinalFields": entry.fields | thread}}
        return {kind: {"FinalFields": dict(entry.fields)} | node | thread}

    def _previous(self, index: str, entry: Entry) -> Fields:
        before = self._before.get(index, {})
        return {k: v for k, v in before.items() if v is not None and v != entry.fields.get(k)}


def nft_page_fields(nfts: Iterable[Nft]) -> list[Fields]:
    """NFTokens of a page: ordered by the low 96 bits of the ids, then by the whole ids."""
    ordered = sorted((nft.nft_id[40:], nft.nft_id, nft.uri) for nft in nfts)
    return [{"NFToken": {"NFTokenID": nft_id, "URI": uri}} for _, nft_id, uri in ordered]

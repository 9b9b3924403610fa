"""A seeded, consistent renaming of everything on an XRP Ledger chain that depends on who its accounts are.

Addresses become other valid addresses, and with them account ids inside other ids: the owner part of
NFTokenPage indexes, bytes 4-24 of NFTokenIDs, the issuer of MPT issuance ids, the hex issuers of order
books. Other ledger-entry indexes become seeded hashes; a book directory keeps its last 8 bytes, which are
its rate. A new account id keeps the last four bytes of the old one: the low 96 bits of an NFTokenID hold
them, and by these bits NFTs are sorted into pages, so the pages stay valid as they are.
A trust line belongs to a low and a high account by the order of their ids. Where the new ids order the
other way, its two sides are swapped and its balance is negated.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from xrpl.core.addresscodec import (
    XRPLAddressCodecException,
    decode_classic_address,
    encode_classic_address,
)

from tests.support.replay import Json

NEUTRAL_ACCOUNTS: Final = frozenset({"rrrrrrrrrrrrrrrrrrrrrhoLvTp", "rrrrrrrrrrrrrrrrrrrrBZbvji"})
"""ACCOUNT_ZERO and ACCOUNT_ONE (the issuer in a trust line's balance) are nobody's."""

SINGLETONS: Final = frozenset(
    {
        "2E8A59AA9D3B5B186B0B9E0F62E6C02587CA74A4D778938E957B6357D364B244",  # NegativeUNL
        "4BC50C9B0D8515D3EAAE1E74B29A95804346C491EE1A95BF25E4AAB854A6A651",  # FeeSettings
        "7DB0788C020F02780A673DC74757F23823FA3014C1866E72CC4CD8B226CD6EF4",  # Amendments
        "B4979A36CDC7F3D3D5C31A4EAE2AC7D7209DDA877588B9AFC66799692AB0D66B",  # LedgerHashes
    }
)

ENTRY_FIELDS: Final = frozenset(
    [
        "LedgerIndex",
        "RootIndex",
        "BookDirectory",
        "NextPageMin",
        "PreviousPageMin",
        "AMMID",
        "VaultID",
        "LoanBrokerID",
        "LoanID",
        "DomainID",
        "CheckID",
        "Channel",
        "NFTokenSellOffer",
        "NFTokenBuyOffer",
        "NFTokenOffers",
        "CredentialIDs",
        "offer_id",
        "index",
    ]
)
NFT_FIELDS: Final = frozenset({"NFTokenID", "nftoken_id", "nftoken_ids"})
MPT_FIELDS: Final = frozenset({"MPTokenIssuanceID", "mpt_issuance_id", "ShareMPTID", "issuance"})
ACCOUNT_ID_FIELDS: Final = frozenset({"TakerPaysIssuer", "TakerGetsIssuer"})
TRANSACTION_FIELDS: Final = frozenset({"PreviousTxnID", "AccountTxnID"})
SIGNATURE_FIELDS: Final = frozenset({"TxnSignature", "Signature"})
SORTED_BY_ACCOUNT: Final = {"Signers": ("Signer", "Account"), "SignerEntries": ("SignerEntry", "Account")}

# Low and high side of lsfReserve, lsfAuth, lsfNoRipple, lsfFreeze, lsfDeepFreeze of a RippleState.
LOW_FLAGS: Final = 0x0001_0000 | 0x0004_0000 | 0x0010_0000 | 0x0040_0000 | 0x0200_0000
HIGH_FLAGS: Final = LOW_FLAGS << 1


def affected_nodes(ledgers: Iterable[Json]) -> Iterator[Json]:
    """Body of every Created-, Modified- and DeletedNode of the transactions of some `ledger` answers."""
    for answer in ledgers:
        for entry in answer["ledger"].get("transactions", ()):
            for node in (entry["meta"] if "meta" in entry else entry["metaData"])["AffectedNodes"]:
                yield from node.values()


def line_ends(node: Mapping[str, Any]) -> tuple[str, str] | None:
    """(low, high) accounts of a RippleState node; None where the node shows no fields."""
    fields = node.get("NewFields") or node.get("FinalFields")
    return (fields["LowLimit"]["issuer"], fields["HighLimit"]["issuer"]) if fields else None


class Renaming:
    """The renaming that `seed` gives; `fixed` addresses keep their names.

    `entries` must have seen the chain (see `learn`) before it is asked for indexes. `transactions` maps old
    to new transaction ids and is filled by whoever renames the transactions, in the order of application.
    """

    def __init__(self, seed: int, fixed: frozenset[str] = frozenset()) -> None:
        self._salt = seed.to_bytes(16, "big", signed=True)
        self._addresses = {address: address for address in NEUTRAL_ACCOUNTS | fixed}
        self._fixed_ids = {decode_classic_address(address) for address in self._addresses}
        self._books: set[str] = set()
        self._pages: set[str] = set()
        self.transactions: dict[str, str] = {}
        self._expected: set[str] = set()
        self._texts: dict[str, Callable[[str], str]] = {
            **dict.fromkeys(ENTRY_FIELDS, self.entry),
            **dict.fromkeys(NFT_FIELDS, self.nft),
            **dict.fromkeys(MPT_FIELDS, self.issuance),
            **dict.fromkeys(ACCOUNT_ID_FIELDS, self._account_hex),
            **dict.fromkeys(TRANSACTION_FIELDS, self.transaction),
            **dict.fromkeys(SIGNATURE_FIELDS, self._signature),
        }

    def learn(self, ledgers: Iterable[Json]) -> None:
        """Learn a chain's transactions, and which indexes are structured (NFT pages, book directories)."""
        answers = list(ledgers)
        for node in affected_nodes(answers):
            for fields in (node.get(part, {}) for part in ("NewFields", "FinalFields", "PreviousFields")):
                self._pages.update(fields[k] for k in ("NextPageMin", "PreviousPageMin") if k in fields)
                self._books.update(fields[k] for k in ("BookDirectory",) if k in fields)
                if "ExchangeRate" in fields and fields.get("RootIndex") == node["LedgerIndex"]:
                    self._books.add(node["LedgerIndex"])
            if node["LedgerEntryType"] == "NFTokenPage":
                self._pages.add(node["LedgerIndex"])
        self._expected.update(t["hash"] for one in answers for t in one["ledger"].get("transactions", ()))

    # One name at a time.

    def address(self, address: str) -> str:
        """The new classic address of a valid one; any other text is returned as it is."""
        if address not in self._addresses:
            try:
                new = encode_classic_address(self._account(decode_classic_address(address)))
            except (XRPLAddressCodecException, ValueError):
                new = address
            self._addresses[address] = new
        return self._addresses[address]

    def nft(self, nft_id: str) -> str:
        """NFTokenID: flags 2 bytes, fee 2, issuer 20, scrambled taxon 4, sequence 4."""
        return nft_id[:8] + self._account_hex(nft_id[8:48]) + nft_id[48:]

    def issuance(self, issuance_id: str) -> str:
        """MPT issuance id: sequence 4 bytes, issuer 20."""
        return issuance_id[:8] + self._account_hex(issuance_id[8:])

    def entry(self, index: str) -> str:
        """Ledger-entry index, 64 hex digits."""
        if index in SINGLETONS:
            return index
        if index in self._pages:
            return self._account_hex(index[:40]) + index[40:]
        if index in self._books:
            return self.digest("book", index[:48])[:48] + index[48:]
        return self.digest("entry", index)

    def transaction(self, tx_hash: str) -> str:
        """New id of a transaction; a seeded stand-in for one before the chain. KeyError: not renamed yet."""
        return self.transactions[tx_hash] if tx_hash in self._expected else self.digest("tx", tx_hash)

    def digest(self, kind: str, old: str) -> str:
        """Seeded 256-bit stand-in for an old hash, 64 upper-case hex digits; all zeros stay zeros."""
        if not old.strip("0"):
            return old
        return hashlib.blake2b(f"{kind}:{old}".encode(), key=self._salt, digest_size=32).hexdigest().upper()

    # Whole values.

    def value(self, key: str, value: Any) -> Any:
        """`value` of the JSON field `key`, renamed throughout; a new object, the old one is left alone."""
        if isinstance(value, str):
            return self._texts.get(key, self.address)(value)
        if isinstance(value, list):
            items = [self.value(key, item) for item in value]
            if key == "AffectedNodes":
                items.sort(key=lambda node: next(iter(node.values()))["LedgerIndex"])
            elif key in SORTED_BY_ACCOUNT:
                outer, inner = SORTED_BY_ACCOUNT[key]
                items.sort(key=lambda item: decode_classic_address(item[outer][inner]))
            return items
        if isinstance(value, dict):
            renamed = {name: self.value(name, item) for name, item in value.items()}
            if value.get("LedgerEntryType") == "RippleState" and "LedgerIndex" in value:
                return self._line_node(value, renamed)
            return renamed
        return value

    def flips(self, low: str, high: str) -> bool:
        """True where the new ids of a trust line's accounts order the other way than the old ones."""
        return decode_classic_address(self.address(low)) > decode_classic_address(self.address(high))

    def _line_node(self, old: Json, renamed: Json) -> Json:
        ends = line_ends(old)
        if ends is None:
            assert not old.get("PreviousFields"), "a trust line's change without its accounts"
            return renamed
        if self.flips(*ends):
            for part in ("NewFields", "FinalFields", "PreviousFields"):
                if part in renamed:
                    renamed[part] = flip_line(renamed[part])
        return renamed

    def _account(self, account_id: bytes) -> bytes:
        if account_id in self._fixed_ids:
            return account_id
        return hashlib.blake2b(account_id, key=self._salt, digest_size=16).digest() + account_id[16:]

    def _account_hex(self, account_id: str) -> str:
        return self._account(bytes.fromhex(account_id)).hex().upper()

    def _signature(self, signature: str) -> str:
        """As long as the old one. It makes a new transaction also of one that names no renamed account."""
        return (self.digest("signature", signature) * (len(signature) // 64 + 1))[: len(signature)]


def flip_line(fields: Json) -> Json:
    """Fields of a RippleState seen with its two sides swapped."""
    flipped: Json = {}
    for name, value in fields.items():
        if name == "Balance":
            flipped[name] = value | {"value": negated(value["value"])}
        elif name == "Flags":
            flipped[name] = flip_flags(value)
        elif name.startswith("Low"):
            flipped["High" + name.removeprefix("Low")] = value
        elif name.startswith("High"):
            flipped["Low" + name.removeprefix("High")] = value
        else:
            flipped[name] = value
    return flipped


def flip_flags(flags: int) -> int:
    """Flags of a RippleState with the low and the high side's bits swapped; the others stay."""
    rest = flags & ~(LOW_FLAGS | HIGH_FLAGS)
    return rest | (flags & LOW_FLAGS) << 1 | (flags & HIGH_FLAGS) >> 1


def negated(value: str) -> str:
    """A decimal text with the other sign; zero has none."""
    if not value.strip("-0."):
        return value
    return value.removeprefix("-") if value.startswith("-") else "-" + value

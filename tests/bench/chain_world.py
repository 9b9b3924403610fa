"""A made-up chain in the making: its state, the ledger being built, and what actions have in common.

`World.begin` charges fee and sequence and names the transaction, `World.end` writes it. Between the two the
functions below change what is held, offered and owned, in the state and in the transaction's `Change` alike.
"""

from __future__ import annotations

import hashlib
import random
from collections import deque
from decimal import Decimal
from typing import Any, Final

import orjson

from pipeline.domain.xrpl_encode import encode_metadata, encode_transaction
from pipeline.domain.xrpl_hash import TreeItem, transaction_id
from tests.bench.chain_state import (
    Account,
    Bag,
    Change,
    Currency,
    Entry,
    Fields,
    Issuance,
    Line,
    Nft,
    Offer,
    keylet,
    nft_page_fields,
)

FEES: Final = (10, 10, 10, 12, 12, 15, 20, 37, 100, 5000)


class World:
    """State of the chain, the ledger being built, and the source of chance."""

    def __init__(self, seed: int, accounts: int, currencies: int) -> None:
        self.rng = random.Random(seed)
        self.salt = hashlib.sha256(b"chain %d" % seed).digest()
        self.ledger_index = 2
        self.close_time = 820_000_000
        self.total_coins = 10**17
        self.transactions = 0
        self.entries: list[tuple[str, bytes]] = []
        self.leaves: list[TreeItem] = []
        self._blob = b""
        self.genesis = Account(bytes.fromhex("B5F762798A53D543A014CAF8B297CFF8F2F937E8"))
        self.genesis.balance = self.total_coins
        self.genesis.root.fields |= {"Balance": str(self.total_coins), "OwnerCount": 0, "Sequence": 1}
        self.accounts = [Account(self._draw_id(i)) for i in range(accounts)]
        self.currencies = [self._currency(i) for i in range(currencies)]
        self.issuances: list[Issuance] = []
        self.nfts: Bag[Nft] = Bag()
        self.on_sale: Bag[Nft] = Bag()
        self.offers: Bag[Offer] = Bag()
        self.books: dict[str, tuple[Entry, list[int]]] = {}
        self.escrows: deque[tuple[Account, Account, int, int, Entry]] = deque()

    def anyone(self) -> Account:
        """An account; some are far busier than others."""
        return self.accounts[int(len(self.accounts) * self.rng.random() ** 2)]

    def upto(self, limit: int) -> int:
        """1 ... limit, small numbers more often."""
        return 1 + int((limit - 1) * self.rng.random() ** 3)

    def begin(self, payer: Account, kind: str, fields: Fields) -> tuple[Change, Fields]:
        """Charge fee and sequence to the payer, sign (a stand-in), and name the transaction by its hash."""
        fee = FEES[int(self.rng.random() * len(FEES))]
        fields |= {
            "Account": payer.address,
            "Fee": str(fee),
            "Sequence": payer.sequence,
            "TransactionType": kind,
        }
        fields["SigningPubKey"] = payer.public_key
        fields["TxnSignature"] = hashlib.sha512(self.salt + orjson.dumps(fields)).hexdigest().upper()
        self._blob = encode_transaction(fields)
        change = Change(transaction_id(self._blob), self.ledger_index, payer.sequence)
        payer.sequence += 1
        change.pay(payer, -fee)
        self.total_coins -= fee
        return change, fields

    def end(self, change: Change, fields: Fields, result: str = "tesSUCCESS", **shown: Any) -> bool:
        """Write the transaction into the ledger being built; `shown` stands in its metadata."""
        metadata = change.metadata(len(self.entries), result)
        entry = {
            "close_time_iso": "CLOSE_TIME",
            "hash": change.txn_id,
            "ledger_hash": "LEDGER_HASH",
            "ledger_index": self.ledger_index,
            "meta": metadata | shown,
            "tx_json": fields,
            "validated": True,
        }
        self.entries.append((change.txn_id, orjson.dumps(entry)))
        self.leaves.append((self._blob, encode_metadata(metadata), change.txn_id))
        self.transactions += 1
        return True

    def _draw_id(self, i: int) -> bytes:
        return hashlib.blake2b(b"account %d" % i, key=self.salt, digest_size=20).digest()

    def _currency(self, i: int) -> Currency:
        code = (
            ("USD", "EUR", "BTC", "CLW", "JPY")[i] if i < 5 else f"{i:04X}".encode().hex().upper() + "00" * 16
        )
        return Currency(code, self.accounts[i % len(self.accounts)], (4, 6, 9)[i % 3])


def payment_to(payee: Account, amount: object) -> Fields:
    return {"DeliverMax": amount, "Destination": payee.address, "Flags": 0}


def open_line(change: Change, holder: Account, currency: Currency, limit: int) -> Line:
    line = Line(holder, currency, limit)
    change.create(line.entry)
    change.own(holder)
    change.own(currency.issuer, 0)
    holder.lines[currency] = line
    currency.lines.add(line)
    return line


def change_held(change: Change, line: Line, units: int) -> None:
    """Change what a holder is owed; a line that no limit keeps goes when it is empty."""
    line.held += units
    change.put(line.entry, Balance=line.balance())
    if line.held == 0 and line.limit == 0:
        change.delete(line.entry)
        change.disown(line.holder)
        change.disown(line.currency.issuer, 0)
        del line.holder.lines[line.currency]
        line.currency.lines.remove(line)


def funds_for(owner: Account, currency: Currency, gives_issued: bool, price: int) -> int:
    """Units of the currency that an owner can give, or pay for at a price."""
    if not gives_issued:
        return owner.spendable // price // 2
    line = owner.lines.get(currency)
    return line.held if line and owner.spendable else 0


def available_of(resting: Offer) -> int:
    return min(resting.units, funds_for(resting.owner, resting.currency, resting.gives_issued, resting.price))


def take_offer(world: World, change: Change, resting: Offer, taker: Account, units: int) -> None:
    """Units change hands against XRP at the resting offer's price."""
    giver, payer = (resting.owner, taker) if resting.gives_issued else (taker, resting.owner)
    line = payer.lines.get(resting.currency)
    change_held(change, line or open_line(change, payer, resting.currency, 0), units)
    change_held(change, giver.lines[resting.currency], -units)
    change.pay(payer, -units * resting.price)
    change.pay(giver, units * resting.price)
    resting.units -= units
    assert resting.entry is not None
    change.put(resting.entry, **resting.sides())
    if resting.units == 0:
        remove_offer(world, change, resting)


def place_offer(world: World, change: Change, new: Offer) -> None:
    directory = _book(world, change, new)
    shown = {"Account": new.owner.address, "BookDirectory": directory, "BookNode": "0", "Flags": 0}
    index = keylet("o", new.owner.id, change.sequence.to_bytes(4, "big"))
    new.entry = Entry("Offer", index, shown | new.sides() | {"OwnerNode": "0", "Sequence": change.sequence})
    change.create(new.entry)
    change.own(new.owner)
    new.currency.offers[new.gives_issued].add(new)
    world.offers.add(new)


def remove_offer(world: World, change: Change, resting: Offer) -> None:
    assert resting.entry is not None
    index = resting.entry.fields["BookDirectory"]
    directory, count = world.books[index]
    count[0] -= 1
    if count[0]:
        change.touch(directory)
    else:
        change.delete(directory)
        del world.books[index]
    change.delete(resting.entry)
    change.disown(resting.owner)
    resting.currency.offers[resting.gives_issued].remove(resting)
    world.offers.remove(resting)


def _book(world: World, change: Change, new: Offer) -> str:
    """Index of the book's directory at this price: 24 bytes for the book, 8 for the rate."""
    currency = new.currency
    issued = (currency.code_bytes.hex().upper(), currency.issuer.id.hex().upper())
    gets, pays = (issued, ("0" * 40,) * 2) if new.gives_issued else (("0" * 40,) * 2, issued)
    rate = _rate(Decimal(new.price).scaleb(currency.scale), new.gives_issued)
    index = keylet("B", bytes.fromhex("".join(pays + gets)))[:48] + rate
    if index in world.books:
        directory, count = world.books[index]
        change.touch(directory)
        count[0] += 1
        return index
    shown = {"ExchangeRate": rate.lower(), "Flags": 0, "RootIndex": index}
    shown |= {"TakerGetsCurrency": gets[0], "TakerGetsIssuer": gets[1]}
    shown |= {"TakerPaysCurrency": pays[0], "TakerPaysIssuer": pays[1]}
    directory = Entry("DirectoryNode", index, shown)
    change.create(directory)
    world.books[index] = (directory, [1])
    return index


def _rate(drops_per_unit: Decimal, gives_issued: bool) -> str:
    """TakerPays / TakerGets as the ledger's float: exponent + 100 in a byte, 16 digits in seven."""
    rate = drops_per_unit if gives_issued else 1 / drops_per_unit
    exponent = rate.adjusted() - 15
    return f"{exponent + 100:02X}{int(rate.scaleb(-exponent)):014X}"


def give_nft(change: Change, nft: Nft, owner: Account) -> None:
    nft.owner = owner
    owner.nfts.append(nft)
    if owner.page is None:
        index = owner.id.hex().upper() + "F" * 24
        owner.page = Entry("NFTokenPage", index, {"Flags": 0, "NFTokens": nft_page_fields(owner.nfts)})
        change.create(owner.page)
        change.count(owner, 1)
    else:
        change.put(owner.page, NFTokens=nft_page_fields(owner.nfts))


def take_nft(change: Change, nft: Nft) -> None:
    owner = nft.owner
    owner.nfts.remove(nft)
    assert owner.page is not None
    if owner.nfts:
        change.put(owner.page, NFTokens=nft_page_fields(owner.nfts))
    else:
        change.delete(owner.page)
        change.count(owner, -1)
        owner.page = None

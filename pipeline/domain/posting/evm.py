"""Posting rules of an EVM chain: effects of a block → openings and legs. Pure.

The fee of every transaction, failed ones too: GAS of the payer → FEE_BURN what the chain burns, → FEE_POOL the
rest; the native book holds nothing else. Each transfer is one leg in the book of its asset: from 0x0 out of the
contract's ISSUER account, to 0x0 back into it, else holder → holder. What was held before a contract's blocks are
read is an opening against its ISSUER. An amount that 128 bits do not hold is in history alone: its book lacks it,
and an alert says so. Legs 0 and 1 of a transaction are its fee, burnt and not; leg 2 + n is its transfer n, from 0,
so that parts of a transaction never share a number, however it is cut. DESIGN.md, "Books"; docs/decisions/0009.
"""

from __future__ import annotations

from typing import Final

from pipeline.domain.account import AccountCode, AccountRef, TransferCode
from pipeline.domain.decode.evm_transfers import ZERO_ADDRESS
from pipeline.domain.evm_asset import book_key, contract_of, native_key
from pipeline.domain.position import BLOCK_TRANSACTION, LEGS_MAX, PositionOverflow
from pipeline.domain.posting.legs import Finding, Leg, Opening, Postings
from schemas.records import EvmBalanceChange, EvmBlock, EvmTransaction, EvmTransfer

UNITS_END: Final = 1 << 128  # the first amount that a transfer of the books does not hold
FEE_LEGS: Final = 2  # numbers of legs that are kept for the fee

_HOLDER: Final = int(AccountCode.HOLDER)
_ISSUER: Final = int(AccountCode.ISSUER)
_FEE: Final = int(TransferCode.CHAIN_FEE)
_MINT: Final = int(TransferCode.CHAIN_MINT)
_BURN: Final = int(TransferCode.CHAIN_BURN)
_TRANSFER: Final = int(TransferCode.CHAIN_TRANSFER)


def post_evm_block(block: EvmBlock) -> Postings:
    """Openings, legs and findings of one block (or chunk), in the order they are to be posted, whatever its finality.

    Amounts in the asset's smallest units (1 a token of an ERC-721), fees in wei. Raises PositionOverflow if a
    transaction's place or a leg's number does not fit a transfer id.
    """
    poster = _Poster(block["chain"])
    for tx in block["transactions"]:
        poster.transaction(tx)
    return Postings(poster.openings, poster.legs, poster.findings)


class _Poster:
    """Collects what one block asks; lives for one call."""

    def __init__(self, chain: str) -> None:
        self.chain = chain
        self.native = native_key(chain)
        self.openings: list[Opening] = []
        self.legs: list[Leg] = []
        self.findings: list[Finding] = []
        self._books: dict[str, tuple[str, AccountRef]] = {}
        self._opened: set[AccountRef] = set()
        self._found: set[tuple[str, str]] = set()  # (rule, asset) told of this block
        self._transaction = 0

    def transaction(self, tx: EvmTransaction) -> None:
        self._transaction = tx["transaction_index"]
        if self._transaction >= BLOCK_TRANSACTION:
            raise PositionOverflow(
                f"transaction_index {self._transaction} of {tx['hash']} does not fit a transfer id"
            )
        if not tx["part"]:
            self._fee(tx)
        for row in tx["balance_changes"]:
            if row["opening"] is not None or row["partial"]:
                self._open(row, tx["hash"])
        for leg, transfer in enumerate(tx["transfers"], FEE_LEGS + tx["first_transfer"]):
            self._transfer(transfer, tx["hash"], leg)

    def _fee(self, tx: EvmTransaction) -> None:
        payer = tx["fee_payer"]
        if payer is None or tx["fee"] is None:
            return
        fee = int(tx["fee"])
        if fee >= UNITS_END:
            self._over(self.native, {"hash": tx["hash"], "amount": str(fee), "from": payer})
            return
        burnt = min(int(tx["burnt"] or 0), fee)  # who pays less than the base fee burns no more than that
        gas = AccountRef(self.native, int(AccountCode.GAS), payer)
        for leg, (code, amount) in enumerate((
            (AccountCode.FEE_BURN, burnt), (AccountCode.FEE_POOL, fee - burnt)
        )):  # fmt: skip
            if amount:
                self._post(gas, AccountRef(self.native, int(code), ""), amount, _FEE, leg)

    def _transfer(self, transfer: EvmTransfer, name: str, leg: int) -> None:
        source, target, amount = transfer["from_address"], transfer["to_address"], int(transfer["amount"])
        if not amount or source == target:
            return
        if leg >= LEGS_MAX:
            raise PositionOverflow(f"transaction {name} has {leg + 1} legs; an id holds {LEGS_MAX}")
        key, issuer = self._book(transfer["asset"])
        if amount >= UNITS_END:
            evidence = {"hash": name, "log_index": str(transfer["log_index"]), "amount": str(amount),
                        "from": source, "to": target}  # fmt: skip
            self._over(key, evidence)
        elif source == ZERO_ADDRESS:
            self._post(issuer, AccountRef(key, _HOLDER, target), amount, _MINT, leg)
        elif target == ZERO_ADDRESS:
            self._post(AccountRef(key, _HOLDER, source), issuer, amount, _BURN, leg)
        else:
            holder = AccountRef(key, _HOLDER, target)
            self._post(AccountRef(key, _HOLDER, source), holder, amount, _TRANSFER, leg)

    def _open(self, row: EvmBalanceChange, name: str) -> None:
        key, issuer = self._book(row["asset"])
        if row["partial"]:
            self._find("partial_books", key, {"hash": name, "account": row["account"]})
        account = AccountRef(key, _HOLDER, row["account"])
        if row["opening"] is None or account in self._opened:
            return
        self._opened.add(account)
        balance = int(row["opening"])
        if balance >= UNITS_END:
            self._over(key, {"hash": name, "account": row["account"], "opening": str(balance)})
        else:
            self.openings.append(Opening(account, issuer, balance))

    def _book(self, asset: str) -> tuple[str, AccountRef]:
        """Asset key of the book and its contract's ISSUER account."""
        found = self._books.get(asset)
        if found is None:
            key = book_key(self.chain, asset)
            found = self._books[asset] = (key, AccountRef(key, _ISSUER, contract_of(key)))
        return found

    def _post(self, debit: AccountRef, credit: AccountRef, amount: int, code: int, leg: int) -> None:
        self.legs.append(Leg(debit, credit, amount, code, self._transaction, leg))

    def _over(self, asset: str, evidence: dict[str, str]) -> None:
        self._find("over_u128", asset, evidence)

    def _find(self, rule: str, asset: str, evidence: dict[str, str]) -> None:
        if (rule, asset) not in self._found:
            self._found.add((rule, asset))
            self.findings.append(Finding(rule, "warning", asset, self._transaction, evidence))

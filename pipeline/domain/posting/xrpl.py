"""Posting rules of the XRP Ledger: effects of a block → openings and legs. Pure.

Native coin: fee leg payer → FEE_BURN; the other changes of a transaction go directly from the one
payer to the one receiver, else each against CLEARING, which ends every transaction at zero. Escrows
and channels are accounts of their owner, one per ledger entry. What no known entry type explains
goes to UNKNOWN_OBJECT. Issued currencies: each positive side of a trust line is a holder; its change
is a leg holder ↔ ISSUER in q(x) units. MPT: MPTAmount on HOLDER, LockedAmount on ESCROW. NFT: one
unit, issuer → owner → … → issuer. DESIGN.md, "Books".
"""

from __future__ import annotations

from typing import Final

from pipeline.domain.account import AccountCode, AccountRef, TransferCode
from pipeline.domain.asset import NATIVE, collection_key, mpt_issuer, native_key, parse_nft_id
from pipeline.domain.position import BLOCK_TRANSACTION, LEGS_MAX, PositionOverflow
from pipeline.domain.posting.legs import Finding, Leg, Opening, Postings, Unbalanced
from pipeline.domain.quantise import is_capped, quantise
from schemas.records import ObjectChange, XrplLedger, XrplTransaction

HOLDER: Final = int(AccountCode.HOLDER)
ISSUER: Final = int(AccountCode.ISSUER)
ESCROW: Final = int(AccountCode.ESCROW)
CHANNEL: Final = int(AccountCode.CHANNEL)
UNKNOWN: Final = int(AccountCode.UNKNOWN_OBJECT)
TRANSFER: Final = int(TransferCode.CHAIN_TRANSFER)
TRADE: Final = int(TransferCode.CHAIN_TRADE)
FEE: Final = int(TransferCode.CHAIN_FEE)
MINT: Final = int(TransferCode.CHAIN_MINT)
BURN: Final = int(TransferCode.CHAIN_BURN)
LOCK: Final = int(TransferCode.LOCK)
UNLOCK: Final = int(TransferCode.UNLOCK)

_LOCKED_CODES: Final = frozenset({ESCROW, CHANNEL})
_HOLDING_ENTRIES: Final = frozenset({"Escrow", "PayChannel"})
_TRADING_ENTRIES: Final = frozenset({"Offer", "AMM"})


def post_ledger(block: XrplLedger) -> Postings:
    """Openings, legs and findings of one ledger (or chunk), in the order they are to be posted.

    Raises Unbalanced if a transaction's native effects do not sum to zero, PositionOverflow if it
    has more legs than a transfer id can number.
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
        self.fee_burn = AccountRef(self.native, int(AccountCode.FEE_BURN), "")
        self.clearing = AccountRef(self.native, int(AccountCode.CLEARING), "")
        self.opening = AccountRef(self.native, int(AccountCode.OPENING), "")
        self.openings: list[Opening] = []
        self.legs: list[Leg] = []
        self.findings: list[Finding] = []
        self._opened: set[AccountRef] = set()
        self._issuers: dict[str, tuple[str, AccountRef]] = {}
        self._transaction = 0
        self._leg = 0

    def transaction(self, tx: XrplTransaction) -> None:
        self._transaction = tx["transaction_index"]
        if self._transaction >= BLOCK_TRANSACTION:
            raise PositionOverflow(
                f"transaction_index {self._transaction} of {tx['hash']} does not fit a transfer id"
            )
        self._leg = 0
        code = TRANSFER
        holding: list[ObjectChange] = []
        for change in tx["object_changes"]:
            kind = change["entry_type"]
            if kind in _TRADING_ENTRIES:
                code = TRADE
            elif kind in _HOLDING_ENTRIES and change["held_asset"] is not None:
                holding.append(change)
        moves: dict[AccountRef, int] = {}
        if tx["fee"]:
            payer = AccountRef(self.native, HOLDER, tx["fee_payer"])
            self._post(payer, self.fee_burn, tx["fee"], FEE)
            moves[payer] = tx["fee"]
        for row in tx["balance_changes"]:
            asset = row["asset"]
            if asset == NATIVE:
                account = AccountRef(self.native, HOLDER, row["account"])
                self._open(account, self.opening, int(row["previous"]))
                moves[account] = moves.get(account, 0) + int(row["change"])
            elif asset[:4] != "mpt:":
                self._issued(row["account"], asset, row["previous"], row["balance"], code)
        for change in holding:
            self._held(change, moves)
        if tx["unexplained"]:
            self._unexplained(tx, moves)
        self._native_moves(moves, code, tx["hash"])
        if tx["mpt_changes"]:
            self._mpt(tx)
        for nft in tx["nft_changes"]:
            self._nft(nft["nft_id"], nft["from_owner"], nft["to_owner"])
        if self._leg > LEGS_MAX:
            raise PositionOverflow(f"transaction {tx['hash']} has {self._leg} legs; an id holds {LEGS_MAX}")

    def _post(self, debit: AccountRef, credit: AccountRef, amount: int, code: int) -> None:
        self.legs.append(Leg(debit, credit, amount, code, self._transaction, self._leg))
        self._leg += 1

    def _change(self, account: AccountRef, against: AccountRef, change: int, code: int) -> None:
        if change > 0:
            self._post(against, account, change, code)
        elif change < 0:
            self._post(account, against, -change, code)

    def _open(self, account: AccountRef, against: AccountRef, balance: int) -> None:
        if account not in self._opened:
            self._opened.add(account)
            self.openings.append(Opening(account, against, balance))

    def _issuer(self, asset: str) -> tuple[str, AccountRef]:
        """Asset key and ISSUER account of an issued currency or MPT."""
        found = self._issuers.get(asset)
        if found is None:
            key = f"{self.chain}/{asset}"
            issuer = mpt_issuer(asset[4:]) if asset[:4] == "mpt:" else asset.rpartition(".")[2]
            found = self._issuers[asset] = (key, AccountRef(key, ISSUER, issuer))
        return found

    def _issued(self, owner: str, asset: str, previous: str, balance: str, code: int) -> None:
        before, after = quantise(previous), quantise(balance)
        if not before and not after and "-" in (previous[0], balance[0]):
            return  # the other side of the line holds: this side's book is not touched
        key, issuer = self._issuer(asset)
        account = AccountRef(key, HOLDER, owner)
        self._open(account, issuer, before)
        self._change(account, issuer, after - before, code)
        if is_capped(balance):
            self._capped(key, owner, balance)

    def _capped(self, asset: str, owner: str, balance: str) -> None:
        evidence = {"asset": asset, "account": owner, "balance": balance, "booked_units": "2^112"}
        subject = f"{asset}/{owner}"
        self.findings.append(Finding("capped", "warning", subject, self._transaction, evidence))

    def _held(self, change: ObjectChange, moves: dict[AccountRef, int]) -> None:
        """What an Escrow or PayChannel itself holds: an account of its owner for this entry."""
        held_asset = change["held_asset"] or NATIVE
        code = CHANNEL if change["entry_type"] == "PayChannel" else ESCROW
        owner = change["owner"] or ""
        if held_asset == NATIVE:
            account = AccountRef(self.native, code, owner, change["entry_id"])
            self._open(account, self.opening, int(change["held_before"]))
            moves[account] = int(change["held_after"]) - int(change["held_before"])
            return
        key, issuer = self._issuer(held_asset)
        account = AccountRef(key, code, owner, change["entry_id"])
        before, after = quantise(change["held_before"]), quantise(change["held_after"])
        self._open(account, issuer, before)
        self._change(account, issuer, after - before, LOCK if after > before else UNLOCK)

    def _unexplained(self, tx: XrplTransaction, moves: dict[AccountRef, int]) -> None:
        entry = tx["unexplained_entry"] or tx["hash"]
        kind = tx["unexplained_type"] or "none"
        moves[AccountRef(self.native, UNKNOWN, entry)] = tx["unexplained"]
        evidence = {"entry": entry, "entry_type": kind, "drops": str(tx["unexplained"]), "hash": tx["hash"]}
        self.findings.append(Finding("unknown_object", "warning", kind, self._transaction, evidence))

    def _native_moves(self, moves: dict[AccountRef, int], code: int, tx_hash: str) -> None:
        changed = [(account, change) for account, change in moves.items() if change]
        if not changed:
            return
        if sum(change for _, change in changed):
            raise Unbalanced(
                f"transaction {tx_hash}: native effects sum to {sum(c for _, c in changed)} drops"
            )
        if len(changed) == 2:
            (a, change), (b, _) = changed
            debit, credit = (b, a) if change > 0 else (a, b)
            self._post(debit, credit, abs(change), _native_code(debit, credit, code))
            return
        for account, change in changed:
            clearing = self.clearing
            debit, credit = (clearing, account) if change > 0 else (account, clearing)
            self._post(debit, credit, abs(change), _native_code(debit, credit, code))

    def _mpt(self, tx: XrplTransaction) -> None:
        """Each holder against the ISSUER; the issuance row tells if units came into being."""
        supply = {row["issuance"]: int(row["outstanding_change"]) for row in tx["mpt_changes"]
                  if row["account"] is None}  # fmt: skip
        for row in tx["mpt_changes"]:
            if row["account"] is None:
                continue
            key, issuer = self._issuer(f"mpt:{row['issuance']}")
            change, locked_change = int(row["change"]), int(row["locked_change"])
            amount, locked = int(row["amount"]), int(row["locked"])
            minted = supply.get(row["issuance"], 0)
            code = MINT if minted > 0 else BURN if minted < 0 else TRANSFER
            holder = AccountRef(key, HOLDER, row["account"])
            self._open(holder, issuer, amount - change)
            self._change(holder, issuer, change, code)
            if locked or locked_change:
                escrow = AccountRef(key, ESCROW, row["account"])
                self._open(escrow, issuer, locked - locked_change)
                self._change(escrow, issuer, locked_change, LOCK if locked_change > 0 else UNLOCK)

    def _nft(self, nft_id: str, before: str | None, after: str | None) -> None:
        key = collection_key(self.chain, nft_id)
        issuer = AccountRef(key, ISSUER, parse_nft_id(nft_id).issuer)
        source = target = issuer
        if before is not None:
            source = AccountRef(key, HOLDER, before, nft_id)
            self._open(source, issuer, 1)
        if after is not None:
            target = AccountRef(key, HOLDER, after, nft_id)
            self._open(target, issuer, 0)
        if source != target:
            self._post(source, target, 1, MINT if before is None else BURN if after is None else TRANSFER)


def _native_code(debit: AccountRef, credit: AccountRef, code: int) -> int:
    if credit.code in _LOCKED_CODES:
        return LOCK
    return UNLOCK if debit.code in _LOCKED_CODES else code

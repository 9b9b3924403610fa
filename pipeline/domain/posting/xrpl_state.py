"""Posting rules of a starting state: what each account holds after ledger N → openings of run N+1. Pure.

The same accounts and the same units as posting/xrpl.py, so an account met first by a ledger of the run and
one met first by a page get the same opening, with the same id, whoever comes first. No legs: a state moves
nothing. docs/decisions/0007.
"""

from __future__ import annotations

from pipeline.domain.account import AccountCode, AccountRef
from pipeline.domain.asset import NATIVE, collection_key, mpt_issuer, native_key, parse_nft_id
from pipeline.domain.posting.legs import Finding, Opening, Postings
from pipeline.domain.posting.xrpl import CHANNEL, ESCROW, HOLDER, ISSUER
from pipeline.domain.quantise import is_capped, quantise
from schemas.records import StateBalance, StateMpt, StateNft, StateObject, XrplState


def post_state(page: XrplState) -> Postings:
    """Openings and findings of one page of a state.

    In a first run what holds nothing is left out; after a gap it is opened with 0, for the books may hold
    something there.
    """
    opener = _Opener(page["chain"], zeros=page["gap_from"] is not None)
    for balance in page["balances"]:
        opener.balance(balance)
    for entry in page["objects"]:
        opener.held(entry)
    for mpt in page["mpts"]:
        opener.mpt(mpt)
    for nft in page["nfts"]:
        opener.nft(nft)
    return Postings(opener.openings, [], opener.findings)


class _Opener:
    """Collects the openings of one page; lives for one call."""

    def __init__(self, chain: str, zeros: bool) -> None:
        self.chain, self._zeros = chain, zeros
        self.native = native_key(chain)
        self.opening = AccountRef(self.native, int(AccountCode.OPENING), "")
        self.openings: list[Opening] = []
        self.findings: list[Finding] = []

    def _open(self, account: AccountRef, against: AccountRef, units: int) -> None:
        if units or self._zeros:
            self.openings.append(Opening(account, against, units))

    def _issued(self, asset: str, issuer: str) -> tuple[str, AccountRef]:
        key = f"{self.chain}/{asset}"
        return key, AccountRef(key, ISSUER, issuer)

    def balance(self, row: StateBalance) -> None:
        """An account's XRP, or its side of a trust line; MPTs are opened from their own rows."""
        asset, owner, balance = row["asset"], row["account"], row["balance"]
        if asset == NATIVE:
            self._open(AccountRef(self.native, HOLDER, owner), self.opening, int(balance))
        elif asset[:4] != "mpt:":
            key, issuer = self._issued(asset, asset.rpartition(".")[2])
            self._open(AccountRef(key, HOLDER, owner), issuer, quantise(balance))
            if is_capped(balance):
                evidence = {"asset": key, "account": owner, "balance": balance, "booked_units": "2^112"}
                self.findings.append(Finding("capped", "warning", f"{key}/{owner}", -1, evidence))

    def held(self, entry: StateObject) -> None:
        """What an Escrow or PayChannel itself holds."""
        asset, owner = entry["held_asset"], entry["owner"] or ""
        if asset is None or entry["entry_type"] not in ("Escrow", "PayChannel"):
            return
        code = CHANNEL if entry["entry_type"] == "PayChannel" else ESCROW
        if asset == NATIVE:
            account = AccountRef(self.native, code, owner, entry["entry_id"])
            self._open(account, self.opening, int(entry["held"]))
            return
        key, issuer = self._issued(asset, asset.rpartition(".")[2])
        self._open(AccountRef(key, code, owner, entry["entry_id"]), issuer, quantise(entry["held"]))

    def mpt(self, row: StateMpt) -> None:
        """A holder's available and locked units; an issuance holds nothing itself."""
        if row["account"] is None:
            return
        key, issuer = self._issued(f"mpt:{row['issuance']}", mpt_issuer(row["issuance"]))
        self._open(AccountRef(key, HOLDER, row["account"]), issuer, int(row["amount"]))
        self._open(AccountRef(key, ESCROW, row["account"]), issuer, int(row["locked"]))

    def nft(self, row: StateNft) -> None:
        """One unit with its owner."""
        key = collection_key(self.chain, row["nft_id"])
        issuer = AccountRef(key, ISSUER, parse_nft_id(row["nft_id"]).issuer)
        self._open(AccountRef(key, HOLDER, row["owner"], row["nft_id"]), issuer, 1)

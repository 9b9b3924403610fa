"""A final block → what it says to the applications: S0's XRPL sync, and the confirmations of S1's attestations. Pure.

Chains come into an application's order as events (decision 0011). Told are facts alone: every move of a token whose
issuer an application names, every fee that one of its treasuries has paid, every digest that one of its attestors has
put on the chain. An event's id is a hash of its place in history, so a block that is told again says nothing new; the
place is counted over all of a transaction, so another configuration or another cut into chunks changes no id.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from pipeline.domain.applications.apps import Apps
from pipeline.domain.applications.event import Emit
from pipeline.domain.applications.observe_mpt import mpt_moves
from pipeline.domain.asset import mpt_issuer, parse_nft_id
from pipeline.domain.block_facts import BlockFacts, evm_facts, ledger_facts, state_facts
from pipeline.domain.decode.evm_transfers import ZERO_ADDRESS
from schemas.records import ChainObserved, EvmBlock, Memo, XrplLedger, XrplState, XrplTransaction

ACTIVITY: Final = "assets.activity.v1"
POSITIONS: Final = "positions.events.v1"
CLIENT: Final = "chain"
MEMO_TYPE: Final = "tidebook/attestation"
DIGEST_BYTES: Final = 32
_DIGEST: Final = re.compile(f"[0-9a-fA-F]{{{2 * DIGEST_BYTES}}}")
NO_TRANSACTION: Final = -1  # place of a starting state: before any transaction


class Place(NamedTuple):
    """Where in a block something was seen."""

    facts: BlockFacts
    transaction_index: int
    hash: str  # of the transaction


class Move(NamedTuple):
    """What happened to a token; holders as addresses of the chain."""

    asset: str  # within the chain, e.g. nft:<NFTokenID>
    issuer: str
    action: str
    source: str | None  # None = did not exist
    target: str | None  # None = exists no more
    amount: str


def ledger_observations(block: XrplLedger, apps: Apps) -> list[Emit]:
    """Of an XRPL ledger (or a chunk of it), in the order in which it happened."""
    facts, found = ledger_facts(block), list[Emit]()
    for tx in block["transactions"]:
        place = Place(facts, tx["transaction_index"], tx["hash"])
        if tx["nft_changes"] or tx["mpt_changes"]:
            found += _tokens(place, enumerate(_xrpl_moves(tx)), apps)
        if tx["fee"]:
            found += _fee(place, tx["fee_payer"], str(tx["fee"]), apps)
        if tx["memos"] and tx["result"] == "tesSUCCESS":
            found += _attestations(place, tx["account"], tx["memos"], apps)
    return found


def state_observations(page: XrplState, apps: Apps) -> list[Emit]:
    """Of a page of a starting state: the tokens that stand there (action opened), before any transaction."""
    place = Place(state_facts(page), NO_TRANSACTION, "")
    moves = [
        Move(
            f"nft:{nft['nft_id']}",
            parse_nft_id(nft["nft_id"]).issuer,
            "opened",
            nft["owner"],
            nft["owner"],
            "1",
        )
        for nft in page["nfts"]
    ]
    for mpt in page["mpts"]:
        holder = mpt["issuer"] if mpt["account"] is None else mpt["account"]
        held = mpt["outstanding"] if mpt["account"] is None else str(int(mpt["amount"]) + int(mpt["locked"]))
        action = "issued" if mpt["account"] is None else "opened"
        moves.append(Move(f"mpt:{mpt['issuance']}", mpt["issuer"], action, holder, holder, held))
    return _tokens(place, enumerate(moves), apps, of_page=True)


def evm_observations(block: EvmBlock, apps: Apps) -> list[Emit]:
    """Of an EVM block (or a chunk of it), once it is final; nothing of what the chain may take back."""
    if block["finality"] != "final":
        return []
    facts, found = evm_facts(block), list[Emit]()
    for tx in block["transactions"]:
        place = Place(facts, tx["transaction_index"], tx["hash"])
        moves = (
            (index, _erc721(transfer))
            for index, transfer in enumerate(tx["transfers"], tx["first_transfer"])
            if transfer["standard"] == "erc721"
        )
        found += _tokens(place, moves, apps)
        if not tx["part"] and tx["fee_payer"] is not None and tx["fee"] not in (None, "0"):
            found += _fee(place, tx["fee_payer"], str(tx["fee"]), apps)
    return found


def _xrpl_moves(tx: XrplTransaction) -> Iterator[Move]:
    for nft in tx["nft_changes"]:
        source, target = nft["from_owner"], nft["to_owner"]
        issuer = parse_nft_id(nft["nft_id"]).issuer
        yield Move(f"nft:{nft['nft_id']}", issuer, _action(source, target), source, target, "1")
    for mpt in tx["mpt_changes"]:
        if mpt["account"] is None:  # the issuance itself: how many units exist after it
            issuer, happened = mpt_issuer(mpt["issuance"]), mpt["action"]
            made, ended = happened == "created", happened == "deleted"
            yield Move(
                f"mpt:{mpt['issuance']}",
                issuer,
                "issued" if made else "destroyed" if ended else "changed",
                None if made else issuer,
                None if ended else issuer,
                mpt["outstanding"],
            )
    for move in mpt_moves(tx["mpt_changes"]):
        asset, issuer = f"mpt:{move.issuance}", mpt_issuer(move.issuance)
        yield Move(asset, issuer, "transferred", move.source, move.target, str(move.amount))


def _erc721(transfer: Any) -> Move:
    source = None if transfer["from_address"] == ZERO_ADDRESS else transfer["from_address"]
    target = None if transfer["to_address"] == ZERO_ADDRESS else transfer["to_address"]
    return Move(transfer["asset"], transfer["contract"], _action(source, target), source, target, "1")


def _action(source: str | None, target: str | None) -> str:
    return "minted" if source is None else "burnt" if target is None else "transferred"


def _tokens(place: Place, moves: Iterable[tuple[int, Move]], apps: Apps, of_page: bool = False) -> list[Emit]:
    """Of the moves those of an application's issuers."""
    chain, found = place.facts.chain, list[Emit]()
    for index, move in moves:
        app = apps.issuers.get(f"{chain}/{move.issuer}")
        if app is None:
            continue
        token = f"{chain}/{move.asset}"
        ends = [None if one is None else f"{chain}/{one}" for one in (move.source, move.target)]
        data = _observed(place, index, "token", token, move.action, ends[0], ends[1], move.amount)
        # many tokens stand at the one place of a starting state: there the token and its holder are the name
        kind = f"token:{move.asset}:{move.target}" if of_page else "token"
        found.append(_event(ACTIVITY, place, 0 if of_page else index, kind, app, token, chain_observed=data))
    return found


def _fee(place: Place, payer: str, amount: str, apps: Apps) -> list[Emit]:
    chain = place.facts.chain
    app = apps.treasuries.get(f"{chain}/{payer}")
    if app is None:
        return []
    data = _observed(place, 0, "fee", None, "paid", f"{chain}/{payer}", None, amount)
    return [_event(ACTIVITY, place, 0, "fee", app, f"{chain}/tx:{place.hash}", chain_observed=data)]


def _observed(
    place: Place, index: int, kind: str, token: str | None, action: str, source: str | None, target: str | None,
    amount: str,
) -> ChainObserved:  # fmt: skip
    return {
        "kind": kind,
        "chain": place.facts.chain,
        "token": token,
        "action": action,
        "from_address": source,
        "to_address": target,
        "amount": amount,
        "tx_hash": place.hash,
        "block": place.facts.number,
        "transaction_index": place.transaction_index,
        "change_index": index,
    }


def _attestations(place: Place, account: str, memos: Iterable[Memo], apps: Apps) -> Iterator[Emit]:
    """Digests that an attestor has put into memos: one event per memo."""
    chain = place.facts.chain
    app = apps.attestors.get(f"{chain}/{account}")
    if app is None:
        return
    for index, memo in enumerate(memos):
        if memo["type"] != MEMO_TYPE:
            continue
        attestation = memo_digest(memo["data"])
        data = {
            "attestation_id": attestation,
            "chain": chain,
            "tx_hash": place.hash,
            "block": place.facts.number,
            "transaction_index": place.transaction_index,
        }
        yield _event(
            POSITIONS, place, index, "attestation", app, attestation, type="ATTESTATION_CONFIRMED",
            attestation_confirmed=data,
        )  # fmt: skip


def memo_digest(data: str) -> str:
    """The digest that a memo's data carries, hex in lower case; `data` as decoded: text where UTF-8, else hex.

    The ledger holds the digest's bytes or its hex as text; bytes that happen to be UTF-8 come as text. Anything else
    is passed on as it is (at most 200 characters): the positions' rule refuses what it does not know, with an alert.
    """
    if _DIGEST.fullmatch(data):
        return data.lower()
    raw = data.encode(errors="replace")
    return raw.hex() if len(raw) == DIGEST_BYTES else data[:200]


def _event(
    topic: str, place: Place, index: int, kind: str, app: str, key: str, type: str = "CHAIN_OBSERVED",
    **payload: Any,
) -> Emit:  # fmt: skip
    """The envelope: as the intake makes it, with the chain's own time and a place in history for an id."""
    facts = place.facts
    name = (topic, facts.chain, facts.hash, str(place.transaction_index), str(index), kind)
    digest = blake2b(digest_size=16)
    for part in name:
        digest.update(len(part.encode()).to_bytes(4, "big") + part.encode())
    positions = topic == POSITIONS
    record = {
        "event_id": ("led_" if positions else "") + digest.hexdigest(),
        "type": type,
        "position_id" if positions else "asset_id": key,
        "user_id": None,
        "app_id": app,
        "client": CLIENT,
        "idempotency_key": f"{facts.number}:{place.transaction_index}:{index}:{kind}",
        "source": f"chain:{facts.chain}",
        "at": facts.time,
        "recorded_at": facts.time,
        **payload,
    }
    return Emit(topic, key, record)

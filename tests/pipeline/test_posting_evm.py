"""EVM blocks to openings and legs: fees, mints, burns, what is too large for the books; a real block, whole."""

import gzip
from collections import Counter
from pathlib import Path

import orjson
import pytest

from pipeline.domain.account import AccountCode, AccountRef
from pipeline.domain.decode.evm import Chain, block_record, decode_block
from pipeline.domain.decode.evm_contracts import Contracts
from pipeline.domain.position import PositionOverflow
from pipeline.domain.posting import evm
from pipeline.domain.posting.evm import post_evm_block
from pipeline.domain.posting.legs import Leg, Opening
from tests.support.evm_books import (
    COIN,
    GAS,
    HOLDER,
    MULTI,
    NOBODY,
    PEOPLE,
    TOKEN,
    Made,
    digest,
    opening,
    records,
    sums_of,
    transaction,
    transfer,
)

A, B, *_ = PEOPLE
NATIVE, ERC20 = "eip155:9/native", f"erc20:{COIN}"
BLOCK = Path(__file__).parents[1] / "data" / "evm" / "blocks" / "17173049.json.gz"
U128 = 2**128


def post(*transactions):
    made = Made(100, digest("b"), digest("p"), [list(transactions)])
    return post_evm_block(records(made, "final")[0])


def holder(asset, owner):
    return AccountRef(f"eip155:9/{asset}", HOLDER, owner)


def issuer(asset, contract):
    return AccountRef(f"eip155:9/{asset}", int(AccountCode.ISSUER), contract)


@pytest.mark.parametrize(
    ("fee", "burnt", "legs"),
    [
        ("21", "7", [(AccountCode.FEE_BURN, 7, 0), (AccountCode.FEE_POOL, 14, 1)]),
        ("21", "21", [(AccountCode.FEE_BURN, 21, 0)]),
        ("21", "0", [(AccountCode.FEE_POOL, 21, 1)]),
        ("21", None, [(AccountCode.FEE_POOL, 21, 1)]),
        ("0", "9", []),  # paid nothing though the base fee was not 0
        (None, None, []),
    ],
)
def test_fees(fee, burnt, legs):
    """Failed transactions too."""
    found = post(transaction(3, fee=None) | {"fee": fee, "burnt": burnt, "status": 0})
    payer = AccountRef(NATIVE, GAS, A)
    assert found.legs == [
        Leg(payer, AccountRef(NATIVE, int(code), ""), amount, 101, 3, at) for code, amount, at in legs
    ]
    assert (found.openings, found.findings) == ([], [])


def test_a_fee_that_nobody_is_known_to_pay_is_not_booked():
    assert post(transaction(0, fee_payer=None)).legs == []


def test_transfers_in_their_order_behind_the_fee():
    """A token's own book, a collection's, a multi-token's; units come from and go to the contract's ISSUER."""
    moves = [
        transfer(ERC20, NOBODY, A, 9), transfer(ERC20, A, B, 4), transfer(ERC20, B, NOBODY, 3),
        transfer(f"erc721:{TOKEN}/77", A, B, 1), transfer(MULTI, A, B, 5),
        transfer(ERC20, A, A, 4), transfer(ERC20, A, B, 0), transfer(ERC20, NOBODY, NOBODY, 8),
    ]  # fmt: skip
    found = post(transaction(0, moves, fee=6), transaction(1, moves[:1], fee=None))
    assert [leg[:4] for leg in found.legs[2:]] == [
        (issuer(ERC20, COIN), holder(ERC20, A), 9, 102),
        (holder(ERC20, A), holder(ERC20, B), 4, 100),
        (holder(ERC20, B), issuer(ERC20, COIN), 3, 103),
        (holder(f"erc721:{TOKEN}", A), holder(f"erc721:{TOKEN}", B), 1, 100),
        (holder(MULTI, A), holder(MULTI, B), 5, 100),
        (issuer(ERC20, COIN), holder(ERC20, A), 9, 102),
    ]
    assert [(leg.transaction, leg.leg) for leg in found.legs] == [*((0, n) for n in range(7)), (1, 2)]


def test_a_legs_number_is_its_transfers_place():
    """Whatever moves nothing is counted too, and so are the parts before; the fee stands in part 0 alone."""
    moves = [
        transfer(ERC20, A, A, 4),
        transfer(ERC20, A, B, 4),
        transfer(ERC20, A, B, 0),
        transfer(ERC20, A, B, 5),
    ]
    whole = transaction(0, moves, fee=6)
    parts = [
        {**whole, "part": part, "parts": 2, "first_transfer": 2 * part, "transfers": moves[2 * part :][:2]}
        for part in range(2)
    ]
    assert [leg.leg for leg in post(whole).legs] == [0, 1, 3, 5]
    assert post(parts[0]).legs + post(parts[1]).legs == post(whole).legs


def test_what_128_bits_do_not_hold_is_told_once_an_asset():
    moves = [
        transfer(ERC20, A, B, U128 - 1, 1),
        transfer(ERC20, A, B, U128, 2),
        transfer(ERC20, A, B, 2**256 - 1, 3),
    ]
    found = post(transaction(0, [*moves, transfer(MULTI, NOBODY, A, U128, 4)]), transaction(1, moves[1:]))
    assert [leg.amount for leg in found.legs if leg.code == 100] == [U128 - 1]
    evidence = {"hash": digest("tx", 0), "log_index": "2", "amount": str(U128), "from": A, "to": B}
    assert found.findings[0] == ("over_u128", "warning", f"eip155:9/{ERC20}", 0, evidence)
    assert [finding.subject for finding in found.findings[1:]] == [f"eip155:9/{MULTI}"]


def test_openings_and_books_that_lack_them():
    changes = [
        opening(A, ERC20, 10),
        opening(B, ERC20, U128),
        opening(A, MULTI, None, partial=True),
        opening(B, MULTI, None, partial=True),
        opening(B, f"erc721:{TOKEN}", 2),
        opening(A, f"erc721:{TOKEN}", None),
    ]
    found = post(transaction(0, balance_changes=changes), transaction(1, balance_changes=changes[:1]))
    assert found.openings == [
        Opening(holder(ERC20, A), issuer(ERC20, COIN), 10),
        Opening(holder(f"erc721:{TOKEN}", B), issuer(f"erc721:{TOKEN}", TOKEN), 2),
    ]
    assert [(one.rule, one.subject) for one in found.findings] == [
        ("over_u128", f"eip155:9/{ERC20}"), ("partial_books", f"eip155:9/{MULTI}")
    ]  # fmt: skip


def test_what_a_transfer_id_cannot_number(monkeypatch):
    with pytest.raises(PositionOverflow, match="transaction_index"):
        post(transaction(2**22 - 1))
    monkeypatch.setattr(evm, "LEGS_MAX", 3)
    assert len(post(transaction(0, [transfer(ERC20, A, B, 1)])).legs) == 3
    with pytest.raises(PositionOverflow, match="4 legs"):
        post(transaction(0, [transfer(ERC20, A, B, 1)] * 2))


def test_a_real_block_adds_up():
    """Block 17173049 of Ethereum with all logs: each account's legs are its balance changes, each fee its payer's."""
    told = orjson.loads(gzip.decompress(BLOCK.read_bytes()))["input"]
    block, receipts = told["eth_getBlockByNumber"], told["eth_getBlockReceipts"]
    header, transactions = decode_block(block, receipts, Contracts(), Chain(burns=True))
    record = block_record(
        "eip155:1", 1, header, transactions, run=1, finality="final", incarnation=0, was_head=False
    )
    found = post_evm_block(record)
    too_large = {finding.subject for finding in found.findings}
    sums = Counter()
    for leg in found.legs:
        sums[leg.debit[:3]] -= leg.amount
        sums[leg.credit[:3]] += leg.amount
    kept = {key: of for key, of in sums.items() if key[1] in (GAS, HOLDER) and of}
    assert kept == {key: of for key, of in sums_of(record).items() if of and key[0] not in too_large}
    pool = sum(
        of for (_, code, _), of in sums.items() if code in (AccountCode.FEE_BURN, AccountCode.FEE_POOL)
    )
    assert pool == sum(int(tx["fee"]) for tx in transactions) > 10**17
    assert len(found.legs) == 365

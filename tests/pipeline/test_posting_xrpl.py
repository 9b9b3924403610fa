"""Posting rules against a real node: the fold of all postings from genesis is the node's own state."""

import gzip
from collections import defaultdict
from decimal import Decimal
from pathlib import Path

import orjson
import pytest

from pipeline.domain.account import AccountCode, AccountRef
from pipeline.domain.balances import AccountBalance, balance_rows
from pipeline.domain.decode.xrpl import decode_ledger, decode_transaction
from pipeline.domain.position import PositionOverflow
from pipeline.domain.posting.xrpl import post_ledger
from pipeline.domain.quantise import quantise, units_to_decimal

ROOT = Path(__file__).parents[2]
RECORDING = ROOT / "pipeline/recordings/xrpl-standalone.jsonl.gz"
CHAIN = "xrpl:test"


def blocks(recording=RECORDING):
    with gzip.open(recording) as lines:
        for line in lines:
            header, transactions = decode_ledger(orjson.loads(line))
            yield {"chain": CHAIN, **header, "transactions": transactions}


class Model:
    """The simplest books there are: one dict, one opening per account."""

    def __init__(self):
        self.units = defaultdict(int)
        self.opened = set()

    def apply(self, postings):
        for opening in postings.openings:
            if opening.account not in self.opened:
                self.opened.add(opening.account)
                self.units[opening.account] += opening.balance
                self.units[opening.against] -= opening.balance
        for leg in postings.legs:
            assert leg.amount > 0
            assert leg.debit.asset == leg.credit.asset
            assert leg.debit != leg.credit
            self.units[leg.debit] -= leg.amount
            self.units[leg.credit] += leg.amount

    def rows(self):
        balances = [AccountBalance(*ref, units) for ref, units in self.units.items()]
        return {(row["account"], row["asset"]): row for row in balance_rows(balances)}


def truth(index):
    path = ROOT / f"tests/data/xrpl-standalone/truth-{index}.json.gz"
    return orjson.loads(gzip.decompress(path.read_bytes()))["tables"]


@pytest.fixture(scope="module")
def states():
    model, found = Model(), {}
    for block in blocks():
        model.apply(post_ledger(block))
        clearing = AccountRef(f"{CHAIN}/XRP", int(AccountCode.CLEARING), "")
        assert model.units[clearing] == 0
        if block["ledger_index"] in (67, 341, 353):
            found[block["ledger_index"]] = (dict(model.units), model.rows())
    return found


@pytest.mark.parametrize("index", [67, 341, 353])
def test_books_are_the_nodes_own_state(states, index):
    units, rows = states[index]
    tables = truth(index)
    expected = {}
    for address, account in tables["accounts"].items():
        expected[(address, "XRP")] = [int(account["balance"]), 0]
    for escrow in tables["escrows"].values():
        if isinstance(escrow["Amount"], str):
            expected[(escrow["Account"], "XRP")][1] += int(escrow["Amount"])
    for channel in tables["paychans"].values():
        expected[(channel["Account"], "XRP")][1] += int(channel["Amount"]) - int(channel["Balance"])
    found = {key: [int(row["available"]), int(row["locked"])] for key, row in rows.items() if key[1] == "XRP"}
    assert found == {key: value for key, value in expected.items() if any(value)}

    lines = defaultdict(lambda: [0, 0])
    for line in tables["iou"]:
        asset = f"{line['currency']}.{line['issuer']}"
        lines[(line["holder"], asset)][0] += quantise(format(Decimal(line["value_plain"]), "f"))
    for escrow in tables["escrows"].values():
        if isinstance(escrow["Amount"], dict) and "currency" in escrow["Amount"]:
            amount = escrow["Amount"]
            asset = f"{amount['currency']}.{amount['issuer']}"
            lines[(escrow["Account"], asset)][1] += quantise(amount["value"])
    issued = defaultdict(int)
    for (_, asset), value in lines.items():
        issued[asset] += sum(value)
    for asset, total in issued.items():
        lines[(asset.rpartition(".")[2], asset)][0] -= total
    found = {
        key: [row["available"], row["locked"]]
        for key, row in rows.items()
        if key[1] != "XRP" and not key[1].startswith("mpt:")
    }
    assert found == {
        key: [units_to_decimal(unit) for unit in value] for key, value in lines.items() if any(value)
    }

    holders = {
        (holder["holder"], f"mpt:{holder['issuance']}"): [holder["amount"], holder["locked"]]
        for holder in tables["mpt_holders"]
        if holder["amount"] != "0" or holder["locked"] != "0"
    }
    issuers = {
        (issuance["issuer"], f"mpt:{name}"): [f"-{issuance['outstanding']}", "0"]
        for name, issuance in tables["mpt_issuances"].items()
        if issuance["outstanding"] != "0"
    }
    found = {key: [row["available"], row["locked"]] for key, row in rows.items() if key[1].startswith("mpt:")}
    assert found == {**holders, **issuers}

    owners = {
        ref.subject: ref.owner
        for ref, unit in units.items()
        if ref.code == AccountCode.HOLDER and ref.subject and unit
    }
    assert owners == {nft: row["owner"] for nft, row in tables["nfts"].items()}


def test_every_book_sums_to_zero(states):
    units, _ = states[353]
    books = defaultdict(int)
    for ref, unit in units.items():
        books[ref.asset] += unit
    assert len(books) > 30
    assert not any(books.values())


def test_fee_legs_are_the_fall_of_total_coins(states):
    units, _ = states[353]
    burnt = units[AccountRef(f"{CHAIN}/XRP", int(AccountCode.FEE_BURN), "")]
    assert burnt == 10**17 - int(truth(353)["total_coins"])


def test_renamed_types_post_the_same():
    for block in blocks():
        if block["transactions"]:
            renamed = {**block, "transactions": [{**tx, "type": "Unheard"} for tx in block["transactions"]]}
            assert post_ledger(renamed) == post_ledger(block)


def test_a_fee_that_the_account_could_not_pay_is_what_it_had():
    """tecINSUFF_FEE: the node takes the whole balance, which is less than Fee."""
    node = {
        "LedgerEntryType": "AccountRoot",
        "LedgerIndex": "A" * 64,
        "FinalFields": {"Account": "rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh", "Balance": "0"},
        "PreviousFields": {"Balance": "110"},
    }
    recorded = {
        "tx_json": {
            "TransactionType": "Payment",
            "Account": "rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh",
            "Fee": "1000",
        },
        "meta": {
            "TransactionIndex": 0,
            "TransactionResult": "tecINSUFF_FEE",
            "AffectedNodes": [{"ModifiedNode": node}],
        },
        "hash": "B" * 64,
    }
    transaction = decode_transaction(recorded)
    assert (transaction["fee"], transaction["unexplained"]) == (110, 0)
    legs = post_ledger({"chain": CHAIN, "transactions": [transaction]}).legs
    assert [(leg.amount, leg.credit.code) for leg in legs] == [(110, AccountCode.FEE_BURN)]


def test_limits_of_a_transfer_id_are_kept():
    block = next(block for block in blocks() if block["transactions"])
    over = [{**block["transactions"][0], "transaction_index": (1 << 22) - 1}]
    with pytest.raises(PositionOverflow, match="transaction_index"):
        post_ledger({**block, "transactions": over})

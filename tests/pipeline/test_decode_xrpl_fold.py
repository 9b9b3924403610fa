"""The effects of a recorded chain, folded from its genesis by a small independent model, end in exactly the
state that the node itself reports: accounts, trust lines, NFTs, MPTs, escrows and channels.
"""

import gzip
import json
from collections import defaultdict
from decimal import Decimal, localcontext
from pathlib import Path

import pytest

from pipeline.domain.decode.xrpl import decode_ledger
from pipeline.ingest.recorded import read_ledgers

SHARED = Path(__file__).parents[2].parent / "shared" / "data" / "xrpl-standalone"
pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data/xrpl-standalone is not here")

GENESIS = "rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh"
TRUTHS = (67, 341, 353)
STATE_OF_OBJECTS = {"Escrow": "escrows", "PayChannel": "paychans"}


class Model:
    """Balances by addition of `change`, checked against `previous` and `balance` of every row."""

    def __init__(self):
        self.balances = defaultdict(Decimal, {(GENESIS, "XRP"): Decimal(10**17)})
        self.owners = {}
        self.locked = defaultdict(int)
        self.outstanding = {}
        self.objects = {}

    def apply(self, record):
        assert record["error"] is None and record["unexplained"] == 0
        for row in record["balance_changes"]:
            key = row["account"], row["asset"]
            assert self.balances[key] == Decimal(row["previous"])
            self.balances[key] += Decimal(row["change"])
            assert self.balances[key] == Decimal(row["balance"])
        for row in record["nft_changes"]:
            assert self.owners.pop(row["nft_id"], None) == row["from_owner"]
            if row["to_owner"]:
                self.owners[row["nft_id"]] = row["to_owner"]
        for row in record["mpt_changes"]:
            self.apply_mpt(row)
        for row in record["object_changes"]:
            if row["action"] == "deleted":
                self.objects.pop(row["entry_id"], None)
            else:
                self.objects[row["entry_id"]] = row

    def apply_mpt(self, row):
        assert not row["ambiguous"]
        if row["account"] is not None:
            self.locked[row["account"], row["issuance"]] += int(row["locked_change"])
            assert self.locked[row["account"], row["issuance"]] == int(row["locked"])
        elif row["action"] == "deleted":
            del self.outstanding[row["issuance"]]
        else:
            before = self.outstanding.get(row["issuance"], 0)
            self.outstanding[row["issuance"]] = before + int(row["outstanding_change"])
            assert self.outstanding[row["issuance"]] == int(row["outstanding"])

    def compare(self, tables):
        accounts = {owner: int(value) for (owner, asset), value in self.balances.items() if asset == "XRP"}
        expected = {owner: int(item["balance"]) for owner, item in tables["accounts"].items()}
        assert {k: v for k, v in accounts.items() if v} == {k: v for k, v in expected.items() if v}
        lines = {
            key: value
            for key, value in self.balances.items()
            if value > 0 and key[1] != "XRP" and not key[1].startswith("mpt:")
        }
        assert lines == {
            (row["holder"], f"{row['currency']}.{row['issuer']}"): Decimal(row["value_plain"])
            for row in tables["iou"]
        }
        assert self.owners == {nft: item["owner"] for nft, item in tables["nfts"].items()}
        assert self.outstanding == {k: int(v["outstanding"]) for k, v in tables["mpt_issuances"].items()}
        self.compare_mpt_holders(tables)
        self.compare_objects(tables)

    def compare_mpt_holders(self, tables):
        for row in tables["mpt_holders"]:
            key = row["holder"], row["issuance"]
            assert self.balances[row["holder"], "mpt:" + row["issuance"]] == Decimal(row["amount"])
            assert self.locked[key] == int(row["locked"])
        known = {(row["holder"], row["issuance"]) for row in tables["mpt_holders"]}
        for (owner, asset), value in self.balances.items():
            assert not asset.startswith("mpt:") or not value or (owner, asset[4:]) in known
        assert all(key in known for key, value in self.locked.items() if value)

    def compare_objects(self, tables):
        for kind, table in STATE_OF_OBJECTS.items():
            mine = {key: row for key, row in self.objects.items() if row["entry_type"] == kind}
            assert mine.keys() == tables[table].keys()
            for key, item in tables[table].items():
                row, amount = mine[key], item["Amount"]
                assert (row["owner"], row["destination"]) == (item["Account"], item["Destination"])
                plain = amount if isinstance(amount, str) else amount["value"]
                assert Decimal(row["amount"]) == Decimal(plain)
                is_mpt = isinstance(amount, dict) and "mpt_issuance_id" in amount
                held = Decimal(plain) - Decimal(item.get("Balance", "0"))
                assert Decimal(row["held_after"]) == (0 if is_mpt else held)
        for name, kind in (("offers", "Offer"), ("checks", "Check"), ("nft_offers", "NFTokenOffer")):
            mine = {key for key, row in self.objects.items() if row["entry_type"] == kind}
            assert mine == tables[name].keys()


def test_fold_ends_in_the_state_of_the_node():
    model = Model()
    ends = []
    with localcontext(prec=400):
        for recorded in read_ledgers([SHARED / "ledgers.jsonl.gz"]):
            header, records = decode_ledger(recorded)
            for record in records:
                model.apply(record)
            if header["ledger_index"] in TRUTHS:
                path = SHARED / f"truth-{header['ledger_index']}.json.gz"
                model.compare(json.loads(gzip.decompress(path.read_bytes()))["tables"])
                ends.append(header["ledger_index"])
    assert tuple(ends) == TRUTHS


def test_total_coins_fall_by_the_fees():
    before = 10**17
    for recorded in read_ledgers([SHARED / "ledgers.jsonl.gz"]):
        header, records = decode_ledger(recorded)
        assert before - header["total_coins"] == sum(record["fee"] for record in records)
        before = header["total_coins"]


def effects(path):
    """{ledger index: effects of its transactions}; `raw` left out, since it keeps the recorded form."""
    found = {}
    for recorded in read_ledgers([path]):
        header, records = decode_ledger(recorded)
        found[header["ledger_index"]] = [{**record, "raw": b""} for record in records]
    return found


@pytest.mark.parametrize("name", ["ledgers-v1-sample", "ledgers-binary-sample", "stream", "stream-v1-sample"])
def test_every_shape_has_the_same_effects(name):
    whole = effects(SHARED / "ledgers.jsonl.gz")
    sample = effects(SHARED / f"{name}.jsonl.gz")
    assert len(sample) >= 6
    for index, records in sample.items():
        assert records == whole[index], index


def test_headers_of_every_shape_agree():
    headers = {
        h["ledger_index"]: h for h, _ in map(decode_ledger, read_ledgers([SHARED / "ledgers.jsonl.gz"]))
    }
    for name in ("ledgers-v1-sample", "ledgers-binary-sample"):
        for recorded in read_ledgers([SHARED / f"{name}.jsonl.gz"]):
            header, _ = decode_ledger(recorded)
            assert header == headers[header["ledger_index"]]

"""What blocks say to the applications, held against raw metadata and the node's own state of the recorded chain."""

import copy
import gzip
import json
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from xrpl.core.addresscodec import encode_classic_address

from pipeline.domain.applications.apps import App, Apps
from pipeline.domain.applications.observe import (
    evm_observations,
    ledger_observations,
    memo_digest,
    state_observations,
)
from pipeline.domain.decode.evm import Chain, block_record, decode_block
from pipeline.domain.decode.evm_contracts import Contracts
from pipeline.domain.decode.evm_transfers import ZERO_ADDRESS
from pipeline.domain.decode.xrpl import decode_ledger
from pipeline.ingest.chains import ChainRegister
from pipeline.ingest.recorded_evm import EvmLine, read_evm_blocks
from schemas.codec import local_codec
from tests.support.evm_logs import ALICE, BOB, ERC20, TOKEN, emitted
from tests.support.recorded import RECORDING, recorded_blocks
from tests.support.truth import read_truth

CHAIN = "xrpl:test"
ISSUERS = (
    "r3tsSV8cfp3Ku9DJoT13vng3QodY4fD6uV",
    "rxK2p84BePBuMiXTgdG1KcDcXMniKF4S4",
    "r9PyVirC6zFB6FeAbCfZ8rBDU1iQbJ4bmM",
    "rnZMtSGvnFNTsxeS5RBtUuyv7HFjDenNDS",
)
TREASURY = ISSUERS[0]
APPS = Apps((
    App("cards", "Cards", (f"{CHAIN}/{ISSUERS[0]}",), (f"{CHAIN}/{TREASURY}",), (f"{CHAIN}/{TREASURY}",)),
    App("mints", "Mints", tuple(f"{CHAIN}/{one}" for one in ISSUERS[1:])),
))  # fmt: skip
ATTESTED = "5f" * 32


@pytest.fixture(scope="module")
def blocks():
    return list(recorded_blocks(CHAIN))


@pytest.fixture(scope="module")
def told(blocks):
    return [emit for block in blocks for emit in ledger_observations(block, APPS)]


def tokens(told, kind):
    return [e for e in told if (e.record["chain_observed"]["token"] or "").startswith(f"{CHAIN}/{kind}:")]


def raw_transactions():
    """(ledger index, tx, meta) of the recording, without our decoder."""
    with gzip.open(RECORDING) as lines:
        for line in lines:
            ledger = json.loads(line)["ledger"]
            for item in ledger["transactions"]:
                meta = item.get("meta") or item.get("metaData")
                yield int(ledger["ledger_index"]), item.get("tx_json", item), meta


def raw_owners(meta):
    """NFTokenID → (owner before, owner after) of one transaction: what its pages held and hold, sets of ids alone."""
    before, after = defaultdict(set), defaultdict(set)
    for node in meta["AffectedNodes"]:
        ((how, entry),) = node.items()
        if entry["LedgerEntryType"] != "NFTokenPage":
            continue
        owner = encode_classic_address(bytes.fromhex(entry["LedgerIndex"][:40]))
        now = entry.get("NewFields") or entry.get("FinalFields") or {}
        was = entry.get("PreviousFields", {}).get("NFTokens", now.get("NFTokens", []))
        for side, found, there in (
            (before, was, how != "CreatedNode"),
            (after, now.get("NFTokens", []), how != "DeletedNode"),
        ):
            if there:
                side[owner] |= {one["NFToken"]["NFTokenID"] for one in found}
    had = {id: owner for owner, ids in before.items() for id in ids}
    has = {id: owner for owner, ids in after.items() for id in ids}
    return {id: (had.get(id), has.get(id)) for id in had.keys() | has.keys() if had.get(id) != has.get(id)}


def test_nft_moves_are_those_of_the_raw_pages(told):
    """For each issuer, by ledger and transaction, straight from the metadata."""
    expected = Counter()
    for index, _, meta in raw_transactions():
        for nft, (source, target) in raw_owners(meta).items():
            issuer = encode_classic_address(bytes.fromhex(nft[8:48]))
            if issuer in ISSUERS:
                expected[index, meta["TransactionIndex"], nft, source, target] += 1
    found = Counter()
    for emit in tokens(told, "nft"):
        data = emit.record["chain_observed"]
        ends = [end and end.removeprefix(f"{CHAIN}/") for end in (data["from_address"], data["to_address"])]
        nft = data["token"].removeprefix(f"{CHAIN}/nft:")
        found[data["block"], data["transaction_index"], nft, *ends] += 1
        assert data["action"] == (
            "minted" if ends[0] is None else "burnt" if ends[1] is None else "transferred"
        )
        assert emit.key == emit.record["asset_id"] == data["token"]
    assert found == expected
    assert {issuer for *_, issuer in (  # several issuers, or this shows little
        (encode_classic_address(bytes.fromhex(key[2][8:48])),) for key in expected)} >= set(ISSUERS[:3])  # fmt: skip


@pytest.mark.parametrize("ledger", [67, 341, 353])
def test_mpt_units_folded_are_what_the_node_holds(blocks, ledger):
    """Who holds how many units, and how many there are, from the observations alone; the node's state is the judge."""
    truth = read_truth(ledger)["tables"]
    everyone = {
        mpt["issuer"] for at in (67, 341, 353) for mpt in read_truth(at)["tables"]["mpt_issuances"].values()
    }
    apps = Apps((App("all", "All", tuple(sorted(f"{CHAIN}/{one}" for one in everyone | set(ISSUERS)))),))
    held, outstanding = Counter(), {}
    for block in blocks:
        for emit in ledger_observations(block, apps) if block["ledger_index"] <= ledger else ():
            data = emit.record["chain_observed"]
            name = (data["token"] or "").removeprefix(f"{CHAIN}/mpt:")
            if "/mpt:" not in (data["token"] or ""):
                continue
            if data["action"] in ("issued", "changed"):
                outstanding[name] = int(data["amount"])
            elif data["action"] == "destroyed":
                assert outstanding.pop(name) == 0
            else:
                held[name, data["from_address"]] -= int(data["amount"])
                held[name, data["to_address"]] += int(data["amount"])
    assert outstanding == {name: int(mpt["outstanding"]) for name, mpt in truth["mpt_issuances"].items()}
    expected = Counter()
    for row in truth["mpt_holders"]:
        units = int(row["amount"]) + int(row["locked"])
        expected[row["issuance"], f"{CHAIN}/{row['holder']}"] += units
    for name, mpt in truth["mpt_issuances"].items():  # what all others hold is what the issuer has given out
        expected[name, f"{CHAIN}/{mpt['issuer']}"] -= int(mpt["outstanding"])
    assert {key: n for key, n in held.items() if n} == {key: n for key, n in expected.items() if n}


def test_every_fee_of_the_treasury_and_no_other(told):
    fees = [e.record for e in told if e.record["chain_observed"]["kind"] == "fee"]
    expected = [(index, int(tx["Fee"])) for index, tx, _ in raw_transactions()
                if tx["Account"] == TREASURY and int(tx["Fee"])]  # fmt: skip
    assert sorted((r["chain_observed"]["block"], int(r["chain_observed"]["amount"])) for r in fees) == sorted(
        expected
    )
    assert {r["app_id"] for r in fees} == {"cards"}
    assert all(r["asset_id"] == f"{CHAIN}/tx:{r['chain_observed']['tx_hash']}" for r in fees)


def test_the_envelope_is_the_chains_own(told, blocks):
    codec, times = local_codec(), {block["ledger_index"]: block["close_time"] for block in blocks}
    for emit in told:
        record = emit.record
        data = record["chain_observed"]
        assert codec.decode(codec.encode(emit.topic, record))[1]["event_id"] == record["event_id"]
        assert record["at"] == record["recorded_at"] == times[data["block"]]
        assert (record["client"], record["source"], record["user_id"]) == ("chain", f"chain:{CHAIN}", None)
        place = f"{data['block']}:{data['transaction_index']}:{data['change_index']}:{data['kind']}"
        assert record["idempotency_key"] == place
    assert len({emit.record["event_id"] for emit in told}) == len(told)


def test_ids_are_the_same_whatever_the_chunks_and_the_configuration(told, blocks):
    """A ledger in one message per transaction; and one application alone, which must not move another's ids."""
    cut = [{**block, "chunk": n, "chunks": len(block["transactions"]), "transactions": [tx]}
           for block in blocks for n, tx in enumerate(block["transactions"])]  # fmt: skip
    assert [emit for block in cut for emit in ledger_observations(block, APPS)] == told
    alone = Apps(APPS.apps[1:])
    mints = [emit for block in blocks for emit in ledger_observations(block, alone)]
    assert mints == [emit for emit in told if emit.record["app_id"] == "mints"] and mints
    assert not any(ledger_observations(block, Apps()) for block in blocks)
    elsewhere = {**blocks[40], "chain": "xrpl:other"}
    assert ledger_observations(elsewhere, APPS) == []


def with_memos(memos, account=TREASURY, result="tesSUCCESS"):
    """A recorded ledger whose first payment has these memos, through the decoder."""
    with gzip.open(RECORDING) as lines:
        for line in lines:
            answer = json.loads(line)
            for item in answer["ledger"]["transactions"]:
                tx = item.get("tx_json", item)
                if tx["TransactionType"] == "Payment" and tx["Account"] == account:
                    changed = copy.deepcopy(answer)
                    place = answer["ledger"]["transactions"].index(item)
                    made = changed["ledger"]["transactions"][place]
                    made.get("tx_json", made)["Memos"] = memos
                    (made.get("meta") or made.get("metaData"))["TransactionResult"] = result
                    header, transactions = decode_ledger(changed)
                    return {"chain": CHAIN, "chain_number": 16384, "run": 1, "chunk": 0, "chunks": 1, "gap_from": None,
                            "gap_to": None, **header, "transactions": transactions}  # fmt: skip
    raise AssertionError("no such payment")


def memo(data, type="tidebook/attestation"):
    return {"Memo": {"MemoType": type.encode().hex().upper(), "MemoData": data.hex().upper()}}


def attested(block, apps=APPS):
    return [e for e in ledger_observations(block, apps) if e.topic == "positions.events.v1"]


@pytest.mark.parametrize("data", [bytes.fromhex(ATTESTED), ATTESTED.encode(), ATTESTED.upper().encode()])
def test_an_attestors_memo_confirms_a_digest(data):
    """As bytes or as hex text; other memos of the transaction say nothing."""
    block = with_memos([memo(b"hello", "text/plain"), memo(data)])
    (emit,) = attested(block)
    record = emit.record
    tx = next(tx for tx in block["transactions"] if len(tx["memos"]) == 2)
    assert record["type"] == "ATTESTATION_CONFIRMED" and record["event_id"].startswith("led_")
    assert len(record["event_id"]) == 36
    assert emit.key == record["position_id"] == ATTESTED
    assert record["attestation_confirmed"] == {
        "attestation_id": ATTESTED, "chain": CHAIN, "tx_hash": tx["hash"], "block": block["ledger_index"],
        "transaction_index": tx["transaction_index"],
    }  # fmt: skip
    assert record["idempotency_key"].endswith(":1:attestation")


def test_what_confirms_nothing():
    """Another account, another type of memo, a transaction that failed."""
    other = Apps((App("cards", "Cards", attestors=(f"{CHAIN}/{ISSUERS[1]}",)),))
    digest = bytes.fromhex(ATTESTED)
    assert attested(with_memos([memo(digest)]), other) == []
    assert attested(with_memos([memo(digest, "tidebook/attestations")])) == []
    assert attested(with_memos([memo(digest)], result="tecPATH_DRY")) == []


def test_several_digests_of_one_transaction_have_ids_of_their_own():
    two = attested(with_memos([memo(bytes.fromhex(ATTESTED)), memo(b"\x01" * 32)]))
    assert [e.key for e in two] == [ATTESTED, "01" * 32]
    assert len({e.record["event_id"] for e in two}) == 2


@pytest.mark.parametrize(("data", "digest"), [
    ("AB" * 32, "ab" * 32),
    ("~" * 32, "7e" * 32),  # bytes that happen to be text
    ("é" * 16, "c3a9" * 16),
    ("no digest", "no digest"),  # passed on: the positions refuse it, with an alert
    ("ab" * 15, "ab" * 15),
    ("", ""),
])  # fmt: skip
def test_digests_in_memos(data, digest):
    assert memo_digest(data) == digest


NFT = "Transfer(address indexed from, address indexed to, uint256 indexed tokenId)"
EVM_APPS = Apps((App("cards", "Cards", (f"eip155:1/{TOKEN}",), (f"eip155:1/{BOB}",)),))
STEPS = [
    (NFT, ZERO_ADDRESS, ALICE, 9),
    (ERC20, ALICE, BOB, 5),
    (NFT, ALICE, BOB, 9),
    (NFT, BOB, ZERO_ADDRESS, 9),
]


def evm_block(finality):
    """One transaction, paid by BOB: token 9 minted, moved and burnt, and 5 units of a fungible token."""
    logs = [emitted(*step, index=n) for n, step in enumerate(STEPS)]
    name, parent = (f"0x{n:064x}" for n in (7, 6))
    receipt = {"transactionHash": name, "transactionIndex": 0, "blockHash": name, "gasUsed": 100, "from": BOB,
               "effectiveGasPrice": 12, "status": 1, "type": 2, "logs": logs}  # fmt: skip
    header = {"number": 16, "hash": name, "parentHash": parent, "timestamp": 5, "gasUsed": 100, "baseFeePerGas": 10,
              "transactions": [name]}  # fmt: skip
    decoded = decode_block(header, [receipt], Contracts(), Chain(burns=True))
    return block_record(
        "eip155:1", 100, *decoded, run=1, finality=finality, incarnation=0, was_head=finality != "head"
    )


def test_an_evm_block_speaks_once_it_is_final():
    assert evm_observations(evm_block("head"), EVM_APPS) == []
    assert evm_observations(evm_block("retracted"), EVM_APPS) == []
    told = [e.record for e in evm_observations(evm_block("final"), EVM_APPS)]
    data = [r["chain_observed"] for r in told]
    token = f"eip155:1/erc721:{TOKEN}/9"
    alice, bob = f"eip155:1/{ALICE}", f"eip155:1/{BOB}"
    assert [
        (d["action"], d["from_address"], d["to_address"], d["amount"], d["change_index"]) for d in data
    ] == [
        ("minted", None, alice, "1", 0),
        ("transferred", alice, bob, "1", 2),
        ("burnt", bob, None, "1", 3),
        ("paid", bob, None, "1200", 0),
    ]
    assert [r["asset_id"] for r in told] == [token] * 3 + [f"eip155:1/tx:0x{7:064x}"]
    assert {r["at"] for r in told} == {5000}
    assert len({r["event_id"] for r in told}) == 4


def test_a_transaction_in_parts_tells_its_fee_once_and_the_same_ids():
    whole = evm_block("final")
    (tx,) = whole["transactions"]
    parts = [
        {**tx, "part": n, "parts": 2, "first_transfer": first, "transfers": tx["transfers"][first:last]}
        for n, (first, last) in enumerate([(0, 2), (2, 4)])
    ]
    cut = [{**whole, "chunk": n, "chunks": 2, "transactions": [part]} for n, part in enumerate(parts)]
    found = [e for block in cut for e in evm_observations(block, EVM_APPS)]
    expected = evm_observations(whole, EVM_APPS)
    assert sorted(found, key=lambda e: e.record["event_id"]) == sorted(
        expected, key=lambda e: e.record["event_id"]
    )


MAINNET = Path(__file__).parents[1] / "data" / "evm" / "blocks" / "17173049.json.gz"
TRANSFER = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"


def test_a_mainnet_block_against_its_raw_receipts(tmp_path):
    """Contracts and payers of two applications: logs and fees counted straight from the node's answer."""
    contracts = ["0xb5f75c61052cd174c43b4187ca9333a5300d765f", "0xed5af388653567af2f388e6224dc7c4b3241c544"]
    payers = ["0xc446f02d364fbaf2911646bcbff56e6613c6e740", "0x21a31ee1afc51d94c2efccaa2092ad1028285549"]
    apps = Apps(tuple(
        App(name, name, (f"eip155:1/{contract}",), (f"eip155:1/{payer}",))
        for name, contract, payer in zip("ab", contracts, payers, strict=True)
    ))  # fmt: skip
    receipts = json.loads(gzip.decompress(MAINNET.read_bytes()))["input"]["eth_getBlockReceipts"]
    moved, paid = Counter(), Counter()
    for receipt in receipts:
        if receipt["from"] in payers:
            price = int(receipt["effectiveGasPrice"], 16) * int(receipt["gasUsed"], 16)
            paid[receipt["transactionHash"], f"eip155:1/{receipt['from']}", str(price)] += 1
        for log in receipt["logs"]:
            topics = log["topics"]
            if log["address"] in contracts and topics[0] == TRANSFER and len(topics) == 4:
                token = f"eip155:1/erc721:{log['address']}/{int(topics[3], 16)}"
                ends = ["0x" + topic[-40:] for topic in topics[1:3]]
                ends = [None if int(end, 16) == 0 else f"eip155:1/{end}" for end in ends]
                moved[receipt["transactionHash"], token, *ends] += 1
    line = EvmLine(
        ChainRegister(tmp_path).evm_chain("eip155:1"),
        lambda record: local_codec().encode("evm.blocks.v1", record),
    )
    (ready,) = line.blocks(read_evm_blocks([MAINNET]))
    data = [e.record["chain_observed"] for part, _ in ready.chunks for e in evm_observations(part, apps)]
    assert moved == Counter(
        (d["tx_hash"], d["token"], d["from_address"], d["to_address"]) for d in data if d["kind"] == "token"
    )
    assert paid == Counter((d["tx_hash"], d["from_address"], d["amount"]) for d in data if d["kind"] == "fee")
    assert (moved.total(), paid.total()) == (6, 11)


def test_a_starting_state_tells_what_stands_there():
    """Whatever page it stands on, by an id of its own."""
    nft = f"0008{'0000'}{'B5F762798A53D543A014CAF8B297CFF8F2F937E8'}{'00000000'}{'00000001'}"
    issuer = encode_classic_address(bytes.fromhex(nft[8:48]))
    mpt = f"00000001{nft[8:48]}"
    row = {"row_number": 0, "issuance": mpt, "account": None, "issuer": issuer, "amount": "0", "locked": "0",
           "outstanding": "70"}  # fmt: skip
    page = {
        "chain": CHAIN, "chain_number": 1, "run": 8, "ledger_index": 7, "page": 3, "last": True, "close_time": 9000,
        "ledger_hash": "AA" * 32, "balances": [], "objects": [],
        "nfts": [{"nft_id": nft, "owner": ISSUERS[1], "uri": None}],
        "mpts": [row, {**row, "account": ISSUERS[2], "amount": "60", "locked": "10", "outstanding": "0"}],
    }  # fmt: skip
    apps = Apps((App("cards", "Cards", (f"{CHAIN}/{issuer}",)),))
    told = [e.record for e in state_observations(page, apps)]
    data = [r["chain_observed"] for r in told]
    assert [(d["action"], d["to_address"], d["amount"], d["transaction_index"]) for d in data] == [
        ("opened", f"{CHAIN}/{ISSUERS[1]}", "1", -1),
        ("issued", f"{CHAIN}/{issuer}", "70", -1),
        ("opened", f"{CHAIN}/{ISSUERS[2]}", "70", -1),
    ]
    assert len({r["event_id"] for r in told}) == 3
    again = state_observations({**page, "page": 0, "mpts": page["mpts"][::-1]}, apps)
    assert {e.record["event_id"] for e in again} == {r["event_id"] for r in told}
    assert state_observations(page, APPS) == []

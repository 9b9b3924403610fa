"""EVM blocks to changes of assets and gas charges, in every state of the block; keys of assets."""

import pytest

from pipeline.domain.decode.evm import Chain, block_record, decode_block
from pipeline.domain.decode.evm_contracts import Contracts
from pipeline.domain.decode.evm_transfers import ZERO_ADDRESS
from pipeline.domain.evm_asset import asset_key, book_key, contract_of, native_key
from pipeline.domain.evm_changes import evm_asset_changes, evm_gas_charges
from schemas.codec import local_codec
from tests.support.evm_logs import ALICE, BOB, ERC20, TOKEN, emitted

ERC721 = "Transfer(address indexed from, address indexed to, uint256 indexed tokenId)"
STEPS = [
    (ERC721, ZERO_ADDRESS, ALICE, 9),
    (ERC20, ALICE, BOB, 5),
    (ERC721, ALICE, BOB, 9),
    (ERC721, BOB, ZERO_ADDRESS, 9),
]


def block(finality):
    """One transaction: token 9 minted, moved and burnt, and 5 units of a fungible token."""
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


def test_the_story_of_a_token():
    (record,) = evm_asset_changes(block("final"))
    assert record["asset"] == f"eip155:1/erc721:{TOKEN}/9"
    assert [
        (of["action"], of["from_owner"], of["to_owner"], of["amount"], of["change"])
        for of in record["changes"]
    ] == [
        ("minted", None, ALICE, "1", "1"),
        ("transferred", ALICE, BOB, "1", "0"),
        ("burnt", BOB, None, "0", "-1"),
    ]
    assert local_codec().encode("assets.changes.v1", record)


def test_gas_charges():
    (record,) = evm_gas_charges(block("final"))
    assert (record["owner"], record["block"]) == (BOB, 16)
    (charge,) = record["charges"]
    assert [charge[name] for name in ("fee", "burnt", "type", "result", "account")] == [
        "1200",
        "1000",
        "2",
        "success",
        BOB,
    ]
    assert local_codec().encode("gas.charges.v1", record)


@pytest.mark.parametrize("finality", ["head", "final", "retracted"])
def test_every_state_of_a_block_is_told_and_named(finality):
    """Only the names differ: whoever undoes a retracted block needs what it did."""
    codec = local_codec()
    for told, topic in ((evm_asset_changes, "assets.changes.v1"), (evm_gas_charges, "gas.charges.v1")):
        (record,), (final,) = told(block(finality)), told(block("final"))
        names = {"finality": finality, "incarnation": 0, "publication": f"0/{finality}"}
        assert record == {**final, **names}
        assert codec.decode(codec.encode(topic, record))[1] | {"time": 0} == record | {"time": 0}


def test_keys():
    token = f"erc721:{TOKEN}/9"
    assert asset_key("eip155:1", token) == f"eip155:1/erc721:{TOKEN}/9"
    assert book_key("eip155:1", token) == f"eip155:1/erc721:{TOKEN}"
    assert book_key("eip155:1", f"erc1155:{TOKEN}/9") == f"eip155:1/erc1155:{TOKEN}/9"
    assert native_key("eip155:1") == "eip155:1/native"
    assert [contract_of(of) for of in (token, asset_key("eip155:1", token), "native", f"erc20:{TOKEN}")] == [
        TOKEN, TOKEN, "", TOKEN,
    ]  # fmt: skip

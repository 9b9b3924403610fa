"""Rules of EVM decoding one by one: S2's events, declared contracts, odd and lying logs."""

import pytest
from eth_abi import encode
from hexbytes import HexBytes
from hypothesis import given
from hypothesis import strategies as st

from pipeline.domain.decode.evm import log_record
from pipeline.domain.decode.evm_abi import BadAbi, event, events_of_abi
from pipeline.domain.decode.evm_builtin import ANY, KINDS
from pipeline.domain.decode.evm_contracts import UNDECLARED, Contracts, contract
from pipeline.domain.decode.evm_transfers import ZERO_ADDRESS, balance_changes_of, transfers_of
from pipeline.domain.decode.xrpl_errors import Malformed
from tests.support.evm_logs import ALICE, BOB, CAROL, ERC20, TOKEN, emitted, topic

U256 = 2**256 - 1
ERC721 = "Transfer(address indexed from, address indexed to, uint256 indexed tokenId)"
BARE = "Transfer(address from, address to, uint256 value)"
BATCH = (
    "TransferBatch(address indexed operator, address indexed from, address indexed to, "
    "uint256[] ids, uint256[] values)"
)
RANGE = (
    "ConsecutiveTransfer(uint256 indexed fromTokenId, uint256 toTokenId, address indexed fromAddress, "
    "address indexed toAddress)"
)
DEPOSIT, WITHDRAWAL = (
    "Deposit(address indexed dst, uint256 wad)",
    "Withdrawal(address indexed src, uint256 wad)",
)


def values(log, contracts=UNDECLARED):
    record = log_record(log, contracts)
    return record["event"], {arg["name"]: arg["value"] for arg in record["args"]}


def moved(*logs, contracts=UNDECLARED):
    found = transfers_of([log_record(log, contracts) for log in logs], contracts)
    return [
        (one["standard"], one["from_address"], one["to_address"], one["token_id"], one["amount"])
        for one in found
    ]


HASH = "ab" * 32


@pytest.mark.parametrize(("declaration", "given_values", "wanted"), [
    ("CustomerWhitelisted(address indexed customer, bytes32 indexed kycId, uint8 tier, uint256 expiresAt)",
     (ALICE, bytes.fromhex(HASH), 3, 1_900_000_000),
     {"customer": ALICE, "kycId": "0x" + HASH, "tier": "3", "expiresAt": "1900000000"}),
    ("CustomerBlocked(address indexed customer, bytes32 indexed kycId, string reason)",
     (ALICE, bytes.fromhex(HASH), "sanctions: é"), {"customer": ALICE, "kycId": "0x" + HASH, "reason": "sanctions: é"}),
    ("MintApproved(address indexed operator, uint256 amount, bytes32 reasonCode, uint256 timestamp)",
     (BOB, U256, bytes(32), 7),
     {"operator": BOB, "amount": str(U256), "reasonCode": "0x" + "0" * 64, "timestamp": "7"}),
    ("MintExecuted(address indexed operator, uint256 amount, string xrplTxHash, uint256 timestamp)",
     (BOB, 5, "F" * 64, 7), {"operator": BOB, "amount": "5", "xrplTxHash": "F" * 64, "timestamp": "7"}),
    ("BurnRecorded(address indexed operator, uint256 amount, string xrplTxHash, uint256 timestamp)",
     (BOB, 5, "", 7), {"operator": BOB, "amount": "5", "xrplTxHash": "", "timestamp": "7"}),
    ("ReserveUpdated(bytes32 indexed assetId, uint256 amountUsd, string source, uint256 timestamp)",
     (bytes.fromhex(HASH), 10**12, "T_BILLS", 7),
     {"assetId": "0x" + HASH, "amountUsd": str(10**12), "source": "T_BILLS", "timestamp": "7"}),
    ("Paused(address indexed by, uint256 timestamp, string reason)",
     (BOB, 7, "drill"), {"by": BOB, "timestamp": "7", "reason": "drill"}),
    ("Unpaused(address indexed by, uint256 timestamp)", (BOB, 7), {"by": BOB, "timestamp": "7"}),
    ("RoleGranted(bytes32 indexed role, address indexed account, address indexed sender)",
     (bytes(32), ALICE, BOB), {"role": "0x" + "0" * 64, "account": ALICE, "sender": BOB}),
    ("RoleRevoked(bytes32 indexed role, address indexed account, address indexed sender)",
     (bytes(32), ALICE, BOB), {"role": "0x" + "0" * 64, "account": ALICE, "sender": BOB}),
    ("RoleAdminChanged(bytes32 indexed role, bytes32 indexed previousAdminRole, bytes32 indexed newAdminRole)",
     (bytes(32), bytes(32), bytes.fromhex(HASH)),
     {"role": "0x" + "0" * 64, "previousAdminRole": "0x" + "0" * 64, "newAdminRole": "0x" + HASH}),
    ("Upgraded(address indexed implementation)", (CAROL,), {"implementation": CAROL}),
    ("Initialized(uint64 version)", (2**64 - 1,), {"version": str(2**64 - 1)}),
    ("Initialized(uint8 version)", (1,), {"version": "1"}),
    ("Paused(address account)", (BOB,), {"account": BOB}),
    ("MembershipIssued(uint256 indexed tokenId, address indexed member, bytes32 indexed kycId, bytes32 xrplNftId, "
     "uint8 tier, uint256 expiresAt)", (9, ALICE, bytes.fromhex(HASH), bytes(32), 2, 8),
     {"tokenId": "9", "member": ALICE, "kycId": "0x" + HASH, "xrplNftId": "0x" + "0" * 64, "tier": "2",
      "expiresAt": "8"}),
])  # fmt: skip
def test_events_known_without_an_abi(declaration, given_values, wanted):
    assert values(emitted(declaration, *given_values)) == (declaration.partition("(")[0], wanted)


def test_every_built_in_event_decodes_what_eth_abi_encodes():
    """No event is lost to another with its topic and number of topics."""
    samples = {"address": ALICE, "bool": True, "string": "s", "bytes32": b"\x01" * 32, "uint256[]": [1, 2]}
    for one in {id(each): each for each in (*ANY, *(of for kind in KINDS.values() for of in kind))}.values():
        args = ", ".join(f"{arg.type}{' indexed' * arg.indexed} {arg.name}" for arg in one.args)
        log = emitted(f"{one.name}({args})", *(samples.get(arg.type, 5) for arg in one.args))
        record = log_record(log)
        assert (record["signature"], len(record["args"])) == (one.signature, len(one.args))


def test_topic_hashes_that_everybody_knows():
    known = {one.signature: one.topic0 for one in ANY}
    assert known["Transfer(address,address,uint256)"][:10] == "0xddf252ad"
    assert known["TransferBatch(address,address,address,uint256[],uint256[])"][:10] == "0x4a39dc06"
    assert known["RoleGranted(bytes32,address,address)"][:10] == "0x2f878811"
    assert known["Upgraded(address)"][:10] == "0xbc7cd75a"


@pytest.mark.parametrize("amount", [0, 1, 2**64, 2**128 - 1, 2**128, 2**255, U256])
def test_uint256_is_exact(amount):
    assert moved(emitted(ERC20, ALICE, BOB, amount)) == [("erc20", ALICE, BOB, None, str(amount))]
    assert moved(emitted(ERC721, ALICE, BOB, amount)) == [("erc721", ALICE, BOB, str(amount), "1")]
    assert moved(emitted(BATCH, CAROL, ALICE, BOB, [amount, 1], [1, amount])) == [
        ("erc1155", ALICE, BOB, str(amount), "1"),
        ("erc1155", ALICE, BOB, "1", str(amount)),
    ]


@given(st.lists(st.tuples(st.sampled_from([ZERO_ADDRESS, ALICE, BOB]), st.sampled_from([ZERO_ADDRESS, ALICE, BOB]),
                          st.integers(0, U256)), max_size=8))  # fmt: skip
def test_balance_changes_are_the_sum_of_the_transfers(steps):
    found = transfers_of(
        [log_record(emitted(ERC20, *step, index=n)) for n, step in enumerate(steps)], UNDECLARED
    )
    sums = {}
    for source, target, amount in steps:
        sums[source] = sums.get(source, 0) - amount
        sums[target] = sums.get(target, 0) + amount
    wanted = {who: change for who, change in sums.items() if change and who != ZERO_ADDRESS}
    rows = balance_changes_of(found)
    assert {row["account"]: int(row["change"]) for row in rows} == wanted
    assert all(row["asset"] == f"erc20:{TOKEN}" for row in rows)


def test_assets_of_transfers_and_balances():
    logs = [
        emitted(ERC20, ALICE, BOB, 3),
        emitted(ERC721, ALICE, BOB, 4),
        emitted(BATCH, BOB, ALICE, BOB, [5], [6]),
    ]
    found = transfers_of([log_record(log) for log in logs], UNDECLARED)
    assert [one["asset"] for one in found] == [f"erc20:{TOKEN}", f"erc721:{TOKEN}/4", f"erc1155:{TOKEN}/5"]
    assert [(row["account"], row["asset"], row["change"]) for row in balance_changes_of(found)] == [
        (ALICE, f"erc20:{TOKEN}", "-3"), (BOB, f"erc20:{TOKEN}", "3"),
        (ALICE, f"erc721:{TOKEN}", "-1"), (BOB, f"erc721:{TOKEN}", "1"),
        (ALICE, f"erc1155:{TOKEN}/5", "-6"), (BOB, f"erc1155:{TOKEN}/5", "6"),
    ]  # fmt: skip


def test_nothing_indexed_is_an_amount_unless_the_contract_is_a_collection():
    log = emitted(BARE, ALICE, BOB, 7)
    assert moved(log) == [("erc20", ALICE, BOB, None, "7")]
    kitties = Contracts([contract(TOKEN, "erc721")])
    assert moved(log, contracts=kitties) == [("erc721", ALICE, BOB, "7", "1")]
    assert moved(emitted(ERC20, ALICE, BOB, 7), contracts=kitties) == []


def test_wraps():
    assert moved(emitted(DEPOSIT, ALICE, 5), emitted(WITHDRAWAL, BOB, 6)) == [
        ("weth", ZERO_ADDRESS, ALICE, None, "5"),
        ("weth", BOB, ZERO_ADDRESS, None, "6"),
    ]
    assert moved(emitted(DEPOSIT, ALICE, 5), contracts=Contracts([contract(TOKEN, "erc20")])) == []
    assert len(moved(emitted(DEPOSIT, ALICE, 5), contracts=Contracts([contract(TOKEN, "weth")]))) == 1


def test_a_wrap_that_a_transfer_tells_too_counts_once():
    mint = emitted(ERC20, ZERO_ADDRESS, ALICE, 5)
    assert moved(emitted(DEPOSIT, ALICE, 5), mint) == [("erc20", ZERO_ADDRESS, ALICE, None, "5")]
    assert len(moved(emitted(DEPOSIT, ALICE, 5), emitted(DEPOSIT, ALICE, 5), mint)) == 2


def test_a_range_of_tokens():
    assert moved(emitted(RANGE, 5, 7, ZERO_ADDRESS, ALICE)) == [
        ("erc721", ZERO_ADDRESS, ALICE, str(n), "1") for n in (5, 6, 7)
    ]
    record = log_record(emitted(RANGE, 0, U256, ZERO_ADDRESS, ALICE))
    assert transfers_of([record], UNDECLARED) == []
    assert record["event"] == "ConsecutiveTransfer" and "not told singly" in record["error"]


def test_a_batch_of_unequal_lists_moves_nothing():
    record = log_record(emitted(BATCH, CAROL, ALICE, BOB, [1, 2], [3]))
    assert transfers_of([record], UNDECLARED) == []
    assert record["error"].endswith("2 ids and 1 values")


@pytest.mark.parametrize("change", [
    {"data": "0x"},
    {"data": "0x" + "0" * 62},
    {"topics": [event(ERC20).topic0, "0x" + "1" * 64, topic("address", BOB)]},  # dirt before an address
])  # fmt: skip
def test_a_log_that_breaks_its_layout_is_kept_raw(change):
    log = {**emitted(ERC20, ALICE, BOB, 7), **change}
    record = log_record(log)
    assert record["event"] is None and record["error"] and record["args"] == []
    assert (record["topics"], record["data"]) == (log["topics"], log["data"])
    assert transfers_of([record], UNDECLARED) == []


def test_lying_offsets_and_lengths_of_a_batch():
    log = emitted(BATCH, CAROL, ALICE, BOB, [1], [2])
    for word in range(4):
        start = 2 + 64 * word
        record = log_record({**log, "data": log["data"][:start] + "f" * 64 + log["data"][start + 64 :]})
        assert record["event"] is None or word == 3
        assert record["event"] is not None or record["error"]


def test_text_that_is_not_utf8_is_told_all_the_same():
    blocked = "CustomerBlocked(address indexed customer, bytes32 indexed kycId, string reason)"
    log = emitted(blocked, ALICE, bytes(32), "ab")
    broken = {**log, "data": log["data"].replace("6162", "61ff")}
    assert values(broken)[1]["reason"] == "a\\xff"


def test_unknown_and_anonymous_logs_are_kept():
    for topics in ([], ["0x" + "9" * 64], ["0x" + "0" * 64, event(ERC20).topic0]):
        record = log_record({"address": TOKEN, "topics": topics, "data": "0x2a", "logIndex": 1})
        assert (record["event"], record["error"], record["data"]) == (None, None, "0x2a")


def test_anonymous_events_of_a_declared_contract():
    declared = "Note(address indexed who, uint256 amount) anonymous"
    abi = [{"type": "event", "name": "Note", "anonymous": True, "inputs": [
        {"name": "who", "type": "address", "indexed": True},
        {"name": "amount", "type": "uint", "indexed": False}]}]  # fmt: skip
    log = emitted(declared, ALICE, 5)
    assert values(log, Contracts([contract(TOKEN, abi=abi)])) == ("Note", {"who": ALICE, "amount": "5"})
    assert values(log) == (None, {})
    twin = {**abi[0], "name": "Other"}
    record = log_record(log, Contracts([contract(TOKEN, abi=[*abi, twin])]))
    assert record["event"] is None and record["error"] == "fits 2 anonymous events: Note, Other"


def test_a_proxy_is_read_by_the_abi_given_for_its_address_and_keeps_its_own_events():
    abi = {"abi": [{"type": "event", "name": "Filled", "anonymous": False, "inputs": [
        {"name": "", "type": "tuple", "indexed": False, "components": [
            {"name": "a", "type": "uint256"}, {"name": "b", "type": "string[]"}, {"name": "c", "type": "bool"}]},
        {"name": "tag", "type": "string", "indexed": True}]}]}  # fmt: skip
    proxy = Contracts([contract(TOKEN, abi=abi)])
    (filled,) = events_of_abi(abi)
    assert filled.signature == "Filled((uint256,string[],bool),string)"
    log = {
        "address": TOKEN.upper().replace("0X", "0x"),
        "topics": [filled.topic0, "0x" + HASH],
        "data": "0x" + encode(["(uint256,string[],bool)"], [(U256, ["x", '"'], True)]).hex(),
        "logIndex": 0,
    }
    record = log_record(log, proxy)
    assert [(arg["name"], arg["value"], arg["hashed"]) for arg in record["args"]] == [
        ("arg0", f'["{U256}",["x","\\""],"true"]', False),
        ("tag", "0x" + HASH, True),
    ]
    assert values(emitted("Upgraded(address indexed implementation)", BOB), proxy)[0] == "Upgraded"
    assert values({**log, "address": BOB}, proxy) == (None, {})


def test_an_abi_tells_the_standard():
    def declared(*declarations):
        made = [event(one) for one in declarations]
        abi = [
            {"type": "event", "name": of.name, "anonymous": False,
             "inputs": [{"name": a.name, "type": a.type, "indexed": a.indexed} for a in of.args]}
            for of in made
        ]  # fmt: skip
        return contract(TOKEN, abi=abi).standards

    assert declared(ERC20, DEPOSIT) == {"erc20"}
    assert declared(ERC721) == {"erc721"}
    assert declared(BATCH) == {"erc1155"}
    assert declared(DEPOSIT) == frozenset()


def test_who_watches_some_contracts_does_not_book_bits_of_others():
    logs = [emitted(ERC20, ALICE, BOB, 1), emitted(ERC20, ALICE, BOB, 2, address=CAROL, index=1)]
    watched = Contracts([contract(TOKEN, "erc20")])
    assert [one[4] for one in moved(*logs, contracts=watched)] == ["1"]
    assert [one[4] for one in moved(*logs, contracts=Contracts([contract(TOKEN, "erc20")], others=True))] == [
        "1",
        "2",
    ]
    more = watched.with_contract(contract(CAROL, "erc20"))
    assert [one[4] for one in moved(*logs, contracts=more)] == ["1", "2"] and CAROL not in watched


@pytest.mark.parametrize("arguments", [
    {"address": "0x12", "kind": "erc20"},
    {"address": TOKEN},
    {"address": TOKEN, "kind": "erc21"},
    {"address": TOKEN, "abi": "x"},
    {"address": TOKEN, "abi": [{"type": "event", "name": "E", "inputs": [{"name": "a", "type": "uint7"}]}]},
])  # fmt: skip
def test_declarations_that_cannot_be_read(arguments):
    with pytest.raises(BadAbi):
        contract(**arguments)


def test_logs_as_web3_gives_them():
    log = emitted(ERC20, ALICE, BOB, 7)
    typed = {
        **log, "topics": [HexBytes(one) for one in log["topics"]], "data": HexBytes(log["data"]), "logIndex": 3,
        "address": "0x00000000000000000000000000000000000000A0",
    }  # fmt: skip
    assert log_record(typed) == {**log_record(log), "log_index": 3}


@pytest.mark.parametrize("change", [
    {"topics": None}, {"topics": ["0x12"]}, {"topics": ["0x" + "1" * 64] * 5}, {"topics": ["0x" + "1_" * 32]},
    {"data": None}, {"data": "0x123"}, {"data": "zz"}, {"address": "0x1"}, {"logIndex": "one"}, {"logIndex": -1},
    {"logIndex": 1.0}, {"logIndex": True},
])  # fmt: skip
def test_what_is_no_log(change):
    with pytest.raises(Malformed):
        log_record({**emitted(ERC20, ALICE, BOB, 7), **change})

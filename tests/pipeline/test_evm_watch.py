"""The set of watched contracts as a chain goes on, is taken back, is restarted; against a plain model."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.domain.decode.evm import decode_block
from pipeline.domain.decode.evm_transfers import ZERO_ADDRESS
from pipeline.domain.evm_logs import logs_bloom
from pipeline.ingest.evm.config import ChainConfig, read_config
from pipeline.ingest.evm.watch import TOPIC, Watched
from schemas.codec import local_codec
from tests.support.evm_logs import ALICE, BOB, ERC20, emitted

TOKEN, LATE, FACTORY = (f"0x{n:040x}" for n in (0xA0, 0x1A7E, 0xFAC))
CREATED = "TokenCreated(address indexed token, address indexed creator, string name)"
CHAIN = """
[[chain]]
name = "eip155:31337"
urls = ["http://127.0.0.1:8545"]
start_block = 10
"""
SETTINGS = CHAIN + f"""
[[chain.contract]]
address = "{TOKEN}"
kind = "erc20"
[[chain.contract]]
address = "{LATE}"
kind = "erc20"
start_block = 20
[[chain.factory]]
address = "{FACTORY}"
event = "{CREATED}"
parameter = "token"
made_kind = "erc20"
start_block = 15
"""  # fmt: skip


@pytest.fixture
def config(tmp_path: Path) -> ChainConfig:
    return configured(tmp_path, SETTINGS)


def configured(directory: Path, text: str) -> ChainConfig:
    (directory / "evm.toml").write_text(text)
    return read_config(directory / "evm.toml", {})["eip155:31337"]


def made(n: int) -> str:
    return f"0x{0x10000 + n:040x}"


def hash_of(number: int, branch: int = 0) -> str:
    return f"0x{(branch << 64) + number:064x}"


def block(
    number: int, logs: list[dict[str, Any]], branch: int = 0
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A block of one transaction with these logs, and its receipt."""
    name = hash_of(number, branch)
    logs = [{**log, "logIndex": hex(place)} for place, log in enumerate(logs)]
    receipt = {"transactionHash": name, "transactionIndex": "0x0", "blockHash": name, "gasUsed": "0x64", "from": BOB,
               "effectiveGasPrice": "0xc", "status": "0x1", "type": "0x2", "logs": logs}  # fmt: skip
    header = {"number": hex(number), "hash": name, "parentHash": hash_of(number - 1, branch),
              "timestamp": hex(5 * number), "gasUsed": "0x64", "baseFeePerGas": "0xa",
              "transactions": [name]}  # fmt: skip
    return header, [receipt]


def creation(token: str, factory: str = FACTORY) -> dict[str, Any]:
    return emitted(CREATED, token, ALICE, "coin", address=factory)


def transfer(token: str, amount: int = 5, source: str = ALICE) -> dict[str, Any]:
    return emitted(ERC20, source, BOB, amount, address=token)


def moved(watched: Watched, number: int, logs: list[dict[str, Any]]) -> list[str]:
    """Contracts whose transfers a block tells."""
    _, transactions = decode_block(
        *block(number, logs), watched.contracts_at(number), watched.config.decode_chain
    )
    return [one["contract"] for of in transactions for one in of["transfers"]]


def test_a_contract_is_read_from_its_start_block_on(config: ChainConfig) -> None:
    watched = Watched(config)
    logs = [transfer(TOKEN), transfer(LATE), transfer(made(1))]
    assert moved(watched, 10, logs) == moved(watched, 19, logs) == [TOKEN]
    assert moved(watched, 20, logs) == [TOKEN, LATE]
    assert watched.want().addresses == watched.contracts.addresses == {TOKEN, LATE, FACTORY}
    assert watched.want().logs is not None and watched.want().logs.addresses == {TOKEN, LATE, FACTORY}


def test_no_contract_begins_before_the_chain_is_read(config: ChainConfig) -> None:
    watched = Watched(replace(config, start_block=100))  # as `--from 100` has it
    assert [one.start_block for one in watched] == [100, 100]
    assert Watched(config, [watched.record(one, 1) for one in watched]).start_no_earlier(101) == ()


def test_before_anything_has_begun_nothing_is_kept(tmp_path: Path) -> None:
    text = CHAIN + f'[[chain.contract]]\naddress = "{LATE}"\nkind = "erc20"\nstart_block = 20'
    watched = Watched(configured(tmp_path, text))
    found = block(10, [transfer(LATE), transfer(TOKEN)])
    header, transactions = decode_block(*found, watched.contracts_at(10), watched.config.decode_chain)
    assert not transactions and not header["watched"]


def test_tokens_that_a_watched_address_meets_are_not_told(tmp_path: Path) -> None:
    """Its transactions are kept whole, but bits of a token that nobody watches are no books."""
    watched = Watched(configured(tmp_path, CHAIN + f'watched = ["{BOB}"]'))
    found = block(10, [transfer(TOKEN)])
    (transaction,) = decode_block(*found, watched.contracts_at(10), watched.config.decode_chain)[1]
    assert len(transaction["logs"]) == 1 and not transaction["transfers"] and not watched.reads_all
    assert watched.want().watched == {BOB}


def test_everything_without_contracts_tells_all_tokens(tmp_path: Path) -> None:
    watched = Watched(configured(tmp_path, CHAIN + "everything = true"))
    assert moved(watched, 10, [transfer(LATE), transfer(TOKEN)]) == [LATE, TOKEN]
    assert watched.want().everything and watched.want().logs is None


def test_everything_beside_contracts_keeps_all_and_tells_those(tmp_path: Path) -> None:
    watched = Watched(configured(tmp_path, SETTINGS.replace("start_block = 10", "everything = true", 1)))
    assert moved(watched, 15, [transfer(LATE), transfer(made(1))]) == []
    assert moved(watched, 20, [transfer(LATE), transfer(made(1))]) == [LATE]
    decoded = decode_block(
        *block(15, [transfer(made(1))]), watched.contracts_at(15), watched.config.decode_chain
    )
    assert len(decoded[1]) == 1


def test_a_made_contract_is_watched_with_the_block_that_made_it(config: ChainConfig) -> None:
    """Its first mint comes before the factory's event."""
    watched = Watched(config)
    version = watched.version
    logs = [transfer(made(1), 7, ZERO_ADDRESS), creation(made(1)), transfer(made(2))]
    header, receipts = block(16, logs)
    (found,) = watched.found_in(header, receipts)
    assert (found.address, found.time) == (made(1), 5 * 16 * 1000)
    known = watched.add(found, 16, hash_of(16))
    assert (known.start_block, known.coverage, known.created) == (16, "complete", (16, hash_of(16)))
    assert watched.version > version and made(1) in watched.want().addresses
    assert moved(watched, 16, logs) == [made(1)]
    assert moved(watched, 15, logs) == []
    record = watched.record(known, 16384)
    assert record["contract"] == f"eip155:31337/{made(1)}"
    assert (record["source"], record["factory"], record["event"]) == (
        "factory", FACTORY, "TokenCreated(address,address,string)"
    )  # fmt: skip
    codec = local_codec()
    assert codec.decode(codec.encode(TOPIC, record))[1] == {**record}


def test_what_the_bloom_settles_when_more_is_wanted(config: ChainConfig) -> None:
    watched = Watched(config)
    before = watched.want()
    watched.cover(TOKEN, "complete")
    assert watched.want() == before
    (found,) = watched.found_in(*block(16, [creation(made(1))]))
    watched.add(found, 16, hash_of(16))
    want = watched.want()
    assert want != before and want.addresses - before.addresses == {made(1)}
    for log, settled in ((transfer(made(1)), False), (transfer(made(2)), True)):
        bloom = "0x" + logs_bloom([log]).hex()
        assert want.leaves(before, bloom) is settled and before.leaves(want, bloom)
    assert not want._replace(everything=True).leaves(want, "0x" + "00" * 256)


def test_what_tells_no_new_contract(config: ChainConfig) -> None:
    watched = Watched(config)
    elsewhere = creation(made(1), factory=made(9))
    other = emitted("Other(address indexed token)", made(1), address=FACTORY)
    short = {**creation(made(1)), "data": "0x12"}
    nobody, named, twice = creation(ZERO_ADDRESS), creation(TOKEN), [creation(made(3)), creation(made(3))]
    nameless = {**creation(made(1)), "topics": []}
    found = watched.found_in(*block(16, [elsewhere, other, short, nobody, named, nameless, *twice]))
    assert [one.address for one in found] == [made(3)]
    assert watched.found_in(*block(14, [creation(made(4))])) == []  # before the factory's start
    watched.add(found[0], 16, hash_of(16))
    assert watched.found_in(*block(17, [creation(made(3))])) == []
    with pytest.raises(ValueError, match="watched already"):
        watched.add(found[0], 17, hash_of(17))


def test_bytes_and_capitals_are_read_too(config: ChainConfig) -> None:
    header, (receipt,) = block(16, [creation(made(1))])
    log = receipt["logs"][0]
    topics = [bytes.fromhex(topic[2:]) for topic in log["topics"]]
    raw = {**log, "topics": topics, "data": bytes.fromhex(log["data"][2:]),
           "address": FACTORY.upper().replace("X", "x")}  # fmt: skip
    (found,) = Watched(config).found_in({**header, "number": 16}, [{**receipt, "logs": [raw]}])
    assert found.address == made(1)


def test_a_lost_block_takes_what_it_made_and_may_come_back(config: ChainConfig) -> None:
    """A → B → A: watched, retracted, watched; each message of the contract has a higher sequence."""
    watched = Watched(config)
    told = []
    for _ in range(2):
        (found,) = watched.found_in(*block(16, [creation(made(1))]))
        told.append(watched.record(watched.add(found, 16, hash_of(16)), 1))
        assert watched.retract(16, hash_of(16, branch=9)) == ()  # another block
        (gone,) = watched.retract(16, hash_of(16))
        told.append(watched.record(gone, 1))
        assert watched.find(made(1)) is None and made(1) not in watched.want().addresses
        assert moved(watched, 16, [transfer(made(1))]) == []
    assert [(one["status"], one["sequence"]) for one in told] == [
        ("watched", 0), ("retracted", 1), ("watched", 2), ("retracted", 3)
    ]  # fmt: skip
    assert {one["created_hash"] for one in told} == {hash_of(16)}
    again = Watched(config, told)
    assert again.find(made(1)) is None
    assert again.add(found, 16, hash_of(16)).sequence == 4


def test_a_block_lost_before_it_was_told(config: ChainConfig) -> None:
    """Nobody retracts it: the block that is read in its place decides, at whatever height."""
    watched = Watched(config)
    (found,) = watched.found_in(*block(18, [creation(made(1))]))
    assert watched.untold() == tuple(watched)  # the settings' two
    watched.add(found, 18, hash_of(18))
    (found,) = watched.found_in(*block(18, [creation(made(1))]))  # refused, and read again
    known = watched.add(found, 18, hash_of(18))
    assert known in watched.untold()
    (again,) = watched.found_in(*block(17, [creation(made(1))], branch=1))
    known = watched.add(again, 17, hash_of(17, 1))
    assert (known.start_block, known.created) == (17, (17, hash_of(17, 1)))
    assert [one.address for one in watched.retract(17, hash_of(17, 1))] == [made(1)]


def test_a_restart_has_the_same_set(config: ChainConfig) -> None:
    watched = Watched(config)
    told = [watched.record(watched.cover(one.address, "opened"), 1) for one in watched.untold()]
    assert not watched.untold()
    for number in (16, 17, 18):
        (found,) = watched.found_in(*block(number, [creation(made(number))]))
        told.append(watched.record(watched.add(found, number, hash_of(number)), 1))
    again = Watched(config, told)
    assert list(again) == list(watched) and not again.untold() and not again.dropped
    gone = again.retract_above(17)  # 18 was never told
    assert [(one.address, one.status, one.sequence) for one in gone] == [(made(18), "retracted", 1)]
    (found,) = again.found_in(*block(18, [creation(made(18))]))
    assert again.add(found, 18, hash_of(18)).sequence == 2


def test_a_broker_that_forgets_has_higher_sequences(config: ChainConfig) -> None:
    watched = Watched(config, first_sequence=1000)
    (found,) = watched.found_in(*block(16, [creation(made(1))]))
    assert {one.sequence for one in watched} == {1000} == {watched.add(found, 16, hash_of(16)).sequence}


def test_what_was_told_stands_and_settings_decide_who_is_watched(config: ChainConfig, tmp_path: Path) -> None:
    watched = Watched(config)
    (found,) = watched.found_in(*block(16, [creation(made(1))]))
    told = [watched.record(watched.cover(one.address, "opened"), 1) for one in watched.untold()]
    told.append(watched.record(watched.add(found, 16, hash_of(16)), 1))
    changed = SETTINGS.replace("start_block = 20", "start_block = 30")
    later = Watched(configured(tmp_path, changed), told)
    assert [(one.start_block, one.coverage) for one in later] == [
        (10, "opened"),
        (20, "opened"),
        (16, "complete"),
    ]
    without = Watched(configured(tmp_path, CHAIN + "everything = true"), told)
    assert len(without) == 0 and without.dropped == tuple(sorted((TOKEN, LATE, made(1))))
    named = SETTINGS + f'[[chain.contract]]\naddress = "{made(1)}"\nkind = "weth"\nstart_block = 40'
    both = Watched(configured(tmp_path, named), told)
    now = both.find(made(1))
    assert now is not None and (now.start_block, now.declared.kind, now.created) == (
        16,
        "weth",
        (16, hash_of(16)),
    )
    both.retract(16, hash_of(16))  # then it is what the settings say
    now = both.find(made(1))
    assert now is not None and (now.start_block, now.source, now.created) == (40, "settings", None)
    assert now in both.untold()


def test_a_contract_left_out_and_put_back_is_partial(config: ChainConfig, tmp_path: Path) -> None:
    watched = Watched(config)
    (found,) = watched.found_in(*block(16, [creation(made(1))]))
    told = [watched.record(watched.cover(one.address, "complete"), 1) for one in watched.untold()]
    told.append(watched.record(watched.add(found, 16, hash_of(16)), 1))
    without = Watched(configured(tmp_path, CHAIN + "everything = true"), told)
    left = without.left()
    assert {(one["address"], one["status"]) for one in left} == {(at, "dropped") for at in without.dropped}
    assert without.left() == [] and len(left) == 3
    still = Watched(configured(tmp_path, CHAIN + "everything = true"), [*told, *left])
    assert still.left() == [] and still.dropped == without.dropped
    back = Watched(config, [*told, *left])
    assert {(one.start_block, one.coverage) for one in back} == {
        (10, "partial"),
        (20, "partial"),
        (16, "partial"),
    }
    assert len(back.untold()) == 3 and back.start_no_earlier(99) == ()
    again = Watched(config, [*told, *left, *(back.record(one, 1) for one in back)])
    assert not again.untold() and {one.coverage for one in again} == {"partial"}


def test_a_contract_that_is_new_to_a_running_chain_begins_at_its_next_block(config: ChainConfig) -> None:
    first = Watched(config)
    token = first.find(TOKEN)
    assert token is not None
    watched = Watched(config, [first.record(first.cover(TOKEN, "complete"), 1)])
    assert watched.start_no_earlier(20) == ()
    assert [(one.address, one.start_block) for one in watched.start_no_earlier(500)] == [(LATE, 500)]
    assert moved(watched, 499, [transfer(LATE), transfer(TOKEN)]) == [TOKEN]
    assert moved(watched, 500, [transfer(LATE), transfer(TOKEN)]) == [LATE, TOKEN]
    late = watched.record(watched.cover(LATE, "opened"), 1)
    assert (late["start_block"], late["coverage"], late["sequence"]) == (500, "opened", 0)
    assert watched.start_no_earlier(600) == () == watched.untold()
    assert watched.cover(LATE, "partial").sequence == 1


def test_a_contract_that_is_distrusted_stays_so(config: ChainConfig) -> None:
    """Told once, with a new sequence; a restart keeps it; what a factory made anew begins anew."""
    watched = Watched(config)
    told = [watched.record(watched.cover(one.address, "opened"), 1) for one in watched.untold()]
    (found,) = watched.found_in(*block(16, [creation(made(1))]))
    told.append(watched.record(watched.add(found, 16, hash_of(16)), 1))
    assert all(one["reliable"] for one in told)
    version, want = watched.version, watched.want()
    for address in (TOKEN, made(1)):
        known = watched.distrust(address)
        assert known is not None and (known.reliable, known.sequence) == (False, 1)
        assert watched.find(address) == known and watched.untold() == (known,)
        told.append(watched.record(known, 1))
        assert watched.distrust(address) is None and not watched.untold()
    assert watched.distrust(made(2)) is None  # nobody watches it
    assert (watched.version, watched.want()) == (version, want)
    assert moved(watched, 16, [transfer(TOKEN)]) == [TOKEN]  # its books go on
    again = Watched(config, told)
    assert list(again) == list(watched) and not again.untold()
    assert again.distrust(TOKEN) is None and again.cover(TOKEN, "partial").reliable is False
    (gone,) = again.retract(16, hash_of(16))
    assert (gone.reliable, gone.sequence) == (False, 2)
    again.record(gone, 1)
    assert again.add(found, 16, hash_of(16)).reliable is False  # made again, it is what it was


def test_distrusted_before_it_was_told_and_records_from_before_there_was_a_mark(config: ChainConfig) -> None:
    watched = Watched(config)
    known = watched.distrust(LATE)
    assert known is not None and (known.sequence, known.reliable) == (0, False) and known in watched.untold()
    covered = watched.cover(LATE, "opened")
    assert (covered.sequence, covered.reliable) == (0, False)
    record: dict[str, Any] = {**watched.record(covered, 1)}
    codec = local_codec()
    assert codec.decode(codec.encode(TOPIC, record))[1] == record
    del record["reliable"]
    assert next(one for one in Watched(config, [record]) if one.address == LATE).reliable is True


def test_a_factory_with_two_events_that_is_a_contract_too(tmp_path: Path) -> None:
    text = (
        SETTINGS
        + f"""
    [[chain.factory]]
    address = "{FACTORY}"
    event = "Cloned(address clone)"
    parameter = "clone"
    made_kind = "erc721"
    [[chain.contract]]
    address = "{FACTORY}"
    kind = "erc20"
    """
    )
    watched = Watched(configured(tmp_path, text))
    logs = [transfer(FACTORY), creation(made(1)), emitted("Cloned(address clone)", made(2), address=FACTORY)]
    found = watched.found_in(*block(16, logs))
    assert [(one.address, one.factory.made.kind) for one in found] == [
        (made(1), "erc20"),
        (made(2), "erc721"),
    ]
    told = [watched.record(watched.add(one, 16, hash_of(16)), 1) for one in found]
    assert [one.declared.kind for one in Watched(watched.config, told) if one.created] == ["erc20", "erc721"]
    _, (transaction,) = decode_block(*block(16, logs), watched.contracts_at(16), watched.config.decode_chain)
    assert [log["event"] for log in transaction["logs"]] == ["Transfer", "TokenCreated", "Cloned"]
    assert [one["contract"] for one in transaction["transfers"]] == [FACTORY]


@pytest.mark.parametrize("seed", range(30))
def test_any_life_of_a_chain(config: ChainConfig, seed: int) -> None:
    """Blocks, reorganisations, kills: the set is always that of the branch, and so is the topic's fold."""
    rng = random.Random(seed)
    watched, topic, branch = Watched(config), [], []  # branch: (number, hash, tokens made)
    for place in range(120):
        chance = rng.random()
        if chance < 0.55:
            number = 15 + len(branch)
            tokens = [made(rng.randrange(40)) for _ in range(rng.choice((0, 0, 1, 2)))]
            known = {token for *_, of in branch for token in of}
            new = list(dict.fromkeys(token for token in tokens if token not in known))
            found = watched.found_in(*block(number, [creation(token) for token in tokens], place))
            assert [one.address for one in found] == new
            topic += [watched.record(watched.add(one, number, hash_of(number, place)), 1) for one in found]
            if chance < 0.45:
                branch.append((number, hash_of(number, place), new))
            elif chance < 0.5:  # killed: the contracts were told, the block was not
                watched = Watched(config, compacted(topic, rng))
                topic += [watched.record(one, 1) for one in watched.retract_above(number - 1)]
            else:  # lost before it was told
                topic += [watched.record(one, 1) for one in watched.retract(number, hash_of(number, place))]
        elif chance < 0.8 and branch:
            lost = [branch.pop() for _ in range(rng.randint(1, min(5, len(branch))))]
            for number, name, _ in lost:
                topic += [watched.record(one, 1) for one in watched.retract(number, name)]
        elif chance > 0.9:
            watched = Watched(config, compacted(topic, rng))
            assert watched.retract_above(branch[-1][0] if branch else 14) == ()
        due = {token: (number, name) for number, name, of in branch for token in of}
        assert {one.address: one.created for one in watched if one.source == "factory"} == due
        folded = {one["address"]: one for one in topic}
        assert {of for of, one in folded.items() if one["status"] == "watched"} == due.keys()
        sequences = [(one["address"], one["sequence"]) for one in topic]
        assert len(set(sequences)) == len(sequences)


def compacted(topic: list[Any], rng: random.Random) -> list[Any]:
    """What a broker may have left: of each contract the last message at least, in order."""
    last = {one["address"]: place for place, one in enumerate(topic)}
    return [one for place, one in enumerate(topic) if last[one["address"]] == place or rng.random() < 0.5]

"""The plain consumer of evm.blocks.v1: what it refuses, and that it comes to what the node says through reorgs."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.anvil import anvil_node, missing
from tests.support.evm_chain import Chain
from tests.support.evm_compare import fold_differs
from tests.support.evm_fold import CODEC, Fold, Misfit
from tests.support.evm_publish import Teller
from tests.support.evm_scenario import Scenario, World, build
from tests.support.evm_truth import truth

Json = dict[str, Any]
ALICE, BOB, COIN, NFT, ZERO = (f"0x{n:040x}" for n in (0xA11CE, 0xB0B, 0xC0, 0x721, 0))


def name(letter: str, number: int) -> str:
    return f"0x{ord(letter):02x}{number:062x}"


def moved(index: int, standard: str, source: str, target: str, amount: int, token: str | None = None) -> Json:
    contract = NFT if standard == "erc721" else COIN
    asset = f"erc721:{NFT}/{token}" if standard == "erc721" else f"erc20:{COIN}"
    return {"log_index": index, "standard": standard, "contract": contract, "asset": asset, "token_id": token,
            "from_address": source, "to_address": target, "amount": str(amount)}  # fmt: skip


def paid(index: int, *transfers: Json, payer: str = ALICE, fee: int = 10) -> Json:
    """A transaction of a block; its balance changes are its transfers'."""
    sums: dict[tuple[str, str], int] = {}
    for of in transfers:
        book = of["asset"].partition("/")[0]
        for who, sign in ((of["from_address"], -1), (of["to_address"], 1)):
            sums[book, who] = sums.get((book, who), 0) + sign * int(of["amount"])
    changes = [
        {"asset": asset, "account": who, "change": str(change), "opening": None, "partial": False}
        for (asset, who), change in sums.items()
        if change and who != ZERO
    ]
    return {"transaction_index": index, "hash": name("t", index), "fee_payer": payer, "fee": str(fee), "tip": "1",
            "burnt": str(fee - 1), "blob_fee": None, "gas_used": 3, "status": 1, "raw": b"",
            "transfers": list(transfers), "balance_changes": changes}  # fmt: skip


def block(number: int, finality: str, branch: str = "a", parent: str | None = None, incarnation: int = 0,
          transactions: tuple[Json, ...] = (), chunk: int = 0, chunks: int = 1, was_head: bool | None = None,
          of_all: int | None = None) -> Json:  # fmt: skip
    count = len(transactions) if of_all is None else of_all
    return {
        "chain": "eip155:1", "block_number": number, "block_hash": name(branch, number), "time": number, "run": 1,
        "parent_hash": name(parent or branch, number - 1), "finality": finality, "incarnation": incarnation,
        "publication": f"{incarnation}/{finality}", "chunk": chunk, "chunks": chunks, "transaction_count": count,
        "was_head": finality == "retracted" if was_head is None else was_head, "watched_count": count,
        "log_count": 0, "gas_used": 0, "gas_limit": 0, "base_fee": "1", "state_root": None, "transactions_root": None,
        "receipts_root": None, "fee_recipient": None, "transactions": list(transactions),
    }  # fmt: skip


def fold_of(*records: Json) -> Fold:
    fold = Fold()
    for record in records:
        fold.take(record)
    return fold


MINT = paid(0, moved(0, "erc20", ZERO, ALICE, 100), moved(1, "erc721", ZERO, ALICE, 1, "7"))
GIVE = paid(0, moved(0, "erc20", ALICE, BOB, 30), moved(1, "erc721", ALICE, BOB, 1, "7"), payer=BOB)


def test_what_is_retracted_is_gone_and_what_comes_back_counts_once():
    """A, B, A: the same hash again, its second incarnation."""
    story = [
        block(1, "final", transactions=(MINT,)),
        block(2, "head", transactions=(GIVE,)),
        block(2, "retracted", transactions=(GIVE,)),
        block(2, "head", "b", "a"),
        block(2, "retracted", "b", "a"),
        block(2, "head", incarnation=1, transactions=(GIVE,)),
    ]
    fold = fold_of(*story, *story)  # all of it delivered twice
    coin = f"erc20:{COIN}"
    assert fold.tip == (2, name("a", 2)) and fold.finalised == 1
    assert fold.final.of_asset(coin) == {ALICE: 100} and fold.head.of_asset(coin) == {ALICE: 70, BOB: 30}
    assert fold.final.owners == {f"erc721:{NFT}/7": ALICE} and fold.head.owners == {f"erc721:{NFT}/7": BOB}
    assert {who: of["fee"] for who, of in fold.head.gas.items()} == {ALICE: 10, BOB: 10}
    assert fold.counts["duplicates"] == 6
    fold.take(block(2, "final", incarnation=1, transactions=(GIVE,), was_head=True))
    assert fold.final.balances == fold.head.balances and fold.final.owners == fold.head.owners
    assert (fold.unfinal, fold.finalised) == ([], 2)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (block(4, "head"), "follows"),
        (block(3, "head", "b"), "stands on"),
        (block(2, "head", "b", "a"), "follows"),
        (block(3, "head", incarnation=1), "head 0 times"),
        (block(3, "head", was_head=True), "was head"),
        (block(1, "retracted"), "is due"),
        (block(2, "retracted", incarnation=1), "is due"),
        (block(2, "retracted", was_head=False), "never was head"),
        (block(3, "final"), "is due"),
        (block(2, "final", was_head=False), "never was head"),
        (block(2, "retracted", transactions=(GIVE,)), "earlier message"),
        (block(3, "head", chunk=1, chunks=2), "chunks before"),
        (block(3, "head", transactions=({**MINT, "balance_changes": []},)), "come to"),
        (block(3, "head", of_all=2, transactions=(MINT,)), "of 2"),
        (block(3, "head", transactions=({**MINT, "fee": None},)), "nobody knows"),
        ({**block(3, "head"), "publication": "1/head"}, "incarnation 0"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(wrong, said):
    fold = fold_of(block(1, "final"), block(2, "head"))
    with pytest.raises(Misfit, match=said):
        fold.take(wrong)


def test_a_topic_begins_with_the_first_block_of_a_run():
    with pytest.raises(Misfit, match="first of all"):
        fold_of(block(2, "head"))
    fold = Fold(anywhere=True)
    fold.take(block(2, "head"))
    assert fold.tip == (2, name("a", 2))


def test_chunks_make_a_block_and_a_head_that_never_became_whole_is_undone():
    one, two = paid(0, moved(0, "erc20", ZERO, ALICE, 5)), paid(1, moved(1, "erc20", ZERO, BOB, 6))
    fold = fold_of(
        block(1, "final"),
        block(2, "head", transactions=(one,), chunks=2, of_all=2),
    )
    assert fold.tip == (1, name("a", 1)) and not fold.head.balances
    fold.take(block(2, "retracted", transactions=(one,), of_all=2))
    assert fold.tip == (1, name("a", 1)) and not fold.head.balances
    for chunk, tx in enumerate((one, two)):
        fold.take(block(2, "head", incarnation=1, transactions=(tx,), chunk=chunk, chunks=2, of_all=2))
    assert fold.head.of_asset(f"erc20:{COIN}") == {ALICE: 5, BOB: 6}
    with pytest.raises(Misfit, match="in the midst"):
        fold_of(block(1, "head", transactions=(one,), chunks=2, of_all=2), block(2, "head"))


def test_an_opening_counts_once_and_from_its_final_block_on():
    change = {"asset": f"erc20:{COIN}", "account": ALICE, "change": "-5", "opening": "40", "partial": False}
    given = paid(0, moved(0, "erc20", ALICE, ZERO, 5))
    opened = {**given, "balance_changes": [change]}
    fold = fold_of(block(1, "head", transactions=(given,)))
    assert fold.head.of_asset(f"erc20:{COIN}") == {ALICE: -5}
    fold.take(block(1, "final", transactions=(opened,), was_head=True))
    fold.take(block(2, "final", transactions=(opened,)))
    assert fold.final.of_asset(f"erc20:{COIN}") == fold.head.of_asset(f"erc20:{COIN}") == {ALICE: 30}


# On a node


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Chain]:
    if missing() is not None:
        pytest.skip(str(missing()))
    with anvil_node(tmp_path / "anvil", slots_in_an_epoch=7) as node:
        yield Chain(node)


class Told:
    """A fold that is fed by the oracle, through the codec."""

    def __init__(self, chain: Chain, world: World, chunk: int = 10**6) -> None:
        self.chain, self.world, self.fold = chain, world, Fold()
        self.teller = Teller(chain, world, chunk=chunk)
        self.records: list[Json] = []

    def step(self) -> None:
        for record in self.teller.step():
            self.records.append(CODEC.decode(self.teller.message(record).value)[1])
            self.fold.take(self.records[-1])

    def check(self) -> None:
        """The fold is what the node says, at the head and at its last final block."""
        fold, holders = self.fold, self.fold.head.accounts()
        assert fold.tip == (self.chain.head, self.chain.blocks[-1].hash)
        head = truth(self.chain, self.world, holders=holders)
        assert fold_differs(head, self.world, fold.head) == []
        if fold.finalised >= self.world.deployed:
            final = truth(self.chain, self.world, fold.finalised, holders)
            assert fold_differs(final, self.world, fold.final) == []


def test_the_fold_is_the_node_at_every_step_of_reorgs(chain):
    """Depths 1 to 10, shorter, equal and longer branches, there and back again, finalisation in between."""
    world = build(chain)
    scenario = Scenario(chain, world, 61)
    told = Told(chain, world)
    scenario.run(3)
    for depth in range(1, 11):
        scenario.run(max(1, depth // 2))
        told.step()
        told.check()
        depth = min(depth, chain.head - max(told.fold.finalised, world.deployed))
        if depth < 1:
            continue
        if depth % 3 == 0:
            lost, _ = _there_and_back(scenario, depth, told)
            assert told.fold.tip == (lost[-1].number, lost[-1].hash)
        else:
            scenario.reorg(depth, max(1, depth + (-1, 0, 2)[depth % 3]))
        told.step()
        told.check()
    chain.finalise()
    told.step()
    told.check()
    assert told.fold.finalised >= world.deployed and told.fold.counts["retracted"] > 15
    assert any(record["incarnation"] for record in told.records)


def _there_and_back(scenario: Scenario, depth: int, told: Told) -> Any:
    lost, other = scenario.reorg(depth)
    told.step()
    told.check()
    scenario.chain.rollback(len(other))
    scenario.chain.play(lost)
    told.step()
    told.check()
    return lost, other


def test_broken_messages_of_a_real_story_are_noticed(chain):
    """One message left out or two exchanged: no such story passes, or it ends unlike the node."""
    world = build(chain)
    scenario = Scenario(chain, world, 62)
    told = Told(chain, world, chunk=3)
    for depth in (2, 4):
        scenario.run(6)
        told.step()
        scenario.reorg(depth)
        told.step()
    told.check()
    draw, caught = random.Random(63), 0
    for _ in range(40):
        story = list(told.records)
        place = draw.randrange(len(story) - 1)
        pair = story[place : place + 2]
        if draw.random() < 0.5 or {of["finality"] for of in pair} == {"head", "final"}:
            del story[place]  # a final block told before or after a later head is as true
        else:
            story[place : place + 2] = reversed(pair)
        fold = Fold()
        try:
            for record in story:
                fold.take(record)
            caught += fold.tip != told.fold.tip or bool(fold._open)
        except Misfit:
            caught += 1
    assert caught == 40

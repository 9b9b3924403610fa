"""Holdings of tokens on a chain that takes blocks back: facts are final, the rest stands beside them."""

import json
import random

import pytest

from pipeline.domain.evm_changes import evm_asset_changes
from pipeline.domain.holdings import GONE_MAX, as_of_head, exists, fold
from tests.support.evm_story import CHAIN, NFT, Story

A, B = "0xaa", "0xbb"
TOKEN = f"{CHAIN}/erc721:{NFT}/7"


def change(place, source, target, index=0):
    action = "minted" if source is None else "burnt" if target is None else "transferred"
    return {
        "transaction_index": place, "change_index": index, "hash": f"T{place}", "type": "2", "action": action,
        "from_owner": source, "to_owner": target, "amount": "0" if target is None else "1", "change": "0",
        "locked": "0", "uri": None,
    }  # fmt: skip


def told(finality, block, *changes, block_hash=A, incarnation=0, chunk=0):
    return {
        "asset": TOKEN, "kind": "nft", "chain": CHAIN, "chain_number": 100, "block": block,
        "block_hash": f"{block_hash}{block}", "chunk": chunk, "finality": finality, "incarnation": incarnation,
        "publication": f"{incarnation}/{finality}", "time": 0, "changes": list(changes),
    }  # fmt: skip


def after(*records, held=None, epoch="e", start=0):
    """The token's holding after records that stand one after the other in partition 0."""
    batch = [(record, 0, epoch, start + place) for place, record in enumerate(records)]
    return fold({} if held is None else {TOKEN: held}, batch).get(TOKEN, held)


def facts(holding):
    return holding["owner"], holding["onchain_status"], holding["amount"], holding["position"]


MINT, MOVE, BURN = change(0, None, "x"), change(1, "x", "y"), change(2, "y", None)


def test_a_head_is_pending_until_it_is_final():
    held = after(told("head", 5, MINT))
    assert facts(held) == (None, "pending", "0", [-1, -1, -1])
    assert held["pending"] == [
        {"block": 5, "block_hash": f"{A}5", "incarnation": 0, "chunk": 0, "changes": [MINT]}
    ]
    assert facts(as_of_head(held)) == ("x", "active", "1", [5, 0, 0])
    held = after(told("final", 5, MINT), held=held, start=1)
    assert facts(held) == ("x", "active", "1", [5, 0, 0]) and held["pending"] == []


def test_a_final_block_that_was_never_a_head_is_folded_at_once():
    held = after(told("final", 5, MINT, MOVE))
    assert facts(held) == ("y", "active", "1", [5, 1, 0]) == facts(as_of_head(held))


def test_a_token_that_only_lost_blocks_told_of_is_no_more():
    held = after(told("head", 5, MINT), told("retracted", 5, MINT))
    assert (held["owner"], held["onchain_status"], held["pending"]) == (None, "retracted", [])
    assert not exists(held)
    again = after(told("head", 5, MINT, block_hash=B), held=held, start=2)
    assert exists(again) and again["onchain_status"] == "pending"
    assert after(told("final", 5, MINT, block_hash=B), held=again, start=3)["owner"] == "x"


def test_a_retraction_leaves_the_facts_as_they_were():
    before = after(told("final", 5, MINT))
    held = after(told("head", 6, MOVE), told("head", 7, BURN), held=before, start=1)
    assert facts(held) == facts(before)
    assert (as_of_head(held)["owner"], as_of_head(held)["onchain_status"]) == (None, "burnt")
    held = after(told("retracted", 7, BURN), held=held, start=3)
    assert as_of_head(held)["owner"] == "y"
    held = after(told("retracted", 6, MOVE), held=held, start=4)
    assert facts(held) == facts(before) == facts(as_of_head(held))


def test_there_and_back_again():
    """A, B, A: the same hash comes back as another incarnation; only that one is left."""
    held = after(
        told("head", 5, MINT), told("retracted", 5, MINT),
        told("head", 5, MINT, block_hash=B), told("retracted", 5, MINT, block_hash=B),
        told("head", 5, MINT, incarnation=1),
    )  # fmt: skip
    assert [(one["block_hash"], one["incarnation"]) for one in held["pending"]] == [(f"{A}5", 1)]
    held = after(told("head", 5, MINT), held=held, start=5)  # the first appearance, told once more
    assert len(held["pending"]) == 1
    assert after(told("final", 5, MINT, incarnation=1), held=held, start=6)["pending"] == []


def test_chunks_of_a_block_are_kept_apart():
    """A token minted in chunk 0 and moved in chunk 1: each chunk becomes final, or goes, by itself."""
    heads = [told("head", 5, MINT), told("head", 5, MOVE, chunk=1)]
    held = after(*heads)
    assert [one["chunk"] for one in held["pending"]] == [0, 1] and as_of_head(held)["owner"] == "y"
    half = after(told("final", 5, MINT), held=held, start=2)
    assert (half["owner"], as_of_head(half)["owner"], len(half["pending"])) == ("x", "y", 1)
    assert after(*heads, held=half, epoch="f")["pending"] == half["pending"]
    whole = after(told("final", 5, MOVE, chunk=1), held=half, start=3)
    assert (whole["owner"], whole["pending"]) == ("y", [])
    gone = after(told("retracted", 5, MINT), told("retracted", 5, MOVE, chunk=1), held=held, start=2)
    assert not exists(gone)


@pytest.mark.parametrize("late", ["head", "retracted", "final"])
def test_what_is_final_never_changes_again(late):
    """The broker forgets and everything comes again: under a new epoch, also of a branch that was lost."""
    held = after(told("head", 5, MINT), told("final", 5, MINT), told("final", 6, MOVE))
    for record in (told(late, 5, MINT), told(late, 6, MOVE), told(late, 4, BURN, block_hash=B)):
        again = after(record, held=held, epoch="f")
        assert {**again, "applied": {}} == {**held, "applied": {}}


def test_an_offset_that_was_applied_changes_nothing():
    held = after(told("head", 5, MINT))
    assert after(told("retracted", 5, MINT), held=held, start=0) is held


def test_what_was_missed_is_healed_by_the_next_final_block():
    held = after(told("head", 5, MINT), told("head", 6, MOVE), told("final", 9, BURN))
    assert held["pending"] == [] and held["onchain_status"] == "burnt"


def test_a_row_of_an_earlier_release_has_no_pending_list():
    old = {
        name: value
        for name, value in after(told("final", 5, MINT)).items()
        if name not in ("pending", "gone")
    }
    assert as_of_head(old)["owner"] == "x" and exists(old)
    assert len(after(told("head", 6, MOVE), held=old, start=1)["pending"]) == 1


def test_a_token_that_is_only_ever_taken_back_keeps_a_bounded_list():
    """Two thousand blocks come and go; one that was forgotten is pending again until its retraction comes again."""
    records = [
        told(finality, 5 + n // 4, MINT, block_hash=f"0x{n}-")
        for n in range(2000)
        for finality in ("head", "retracted")
    ]
    held = after(*records)
    assert len(held["gone"]) == GONE_MAX and not exists(held)
    assert after(records[-2], held=held, epoch="f")["pending"] == []
    long_ago = after(records[0], held=held, epoch="f")
    assert len(long_ago["pending"]) == 1
    again = after(records[1], held=long_ago, epoch="f", start=1)
    assert again["pending"] == [] and len(again["gone"]) == GONE_MAX


def owners(blocks):
    """Token → owner after the last of these blocks."""
    last = blocks[-1].owners if blocks else {}
    return {f"{CHAIN}/erc721:{NFT}/{token}": owner for token, owner in last.items()}


def owned(holdings):
    return {asset: held["owner"] for asset, held in holdings.items() if held["owner"] is not None}


def deliveries(records, draw):
    """The records as a topic may hold them: stretches told again after a restart, under new epochs at times."""
    epoch, offset, start = 0, 0, 0
    while start < len(records):
        end = min(len(records), start + draw.randint(1, 12))
        for record in records[start:end]:
            for changes in evm_asset_changes(record):
                yield changes, 0, f"e{epoch}", offset
                offset += 1
        start = end
        if draw.random() < 0.4:
            start = max(0, start - draw.randint(0, 15))
            if draw.random() < 0.3:
                epoch, offset = epoch + 1, 0


@pytest.mark.parametrize("seed", range(12))
def test_seeded_stories_end_as_the_chain_itself(seed):
    """Facts = owners on the final blocks, head = owners on all that stand; however often stretches are told again."""
    draw, story = random.Random(seed), Story(seed).tell(150)
    holdings, batch = {}, []
    for one in deliveries(story.told, draw):
        batch.append(one)
        if draw.random() < 0.2:
            holdings |= json.loads(json.dumps(fold(holdings, batch)))
            batch = []
    holdings |= fold(holdings, batch)
    assert owned(holdings) == owners(story.final)
    assert owned({asset: as_of_head(held) for asset, held in holdings.items()}) == owners(story.standing())
    assert {asset for asset, held in holdings.items() if exists(held)} >= owners(story.standing()).keys()


@pytest.mark.parametrize("seed", range(4))
def test_at_every_step_the_facts_and_the_head_are_right(seed):
    story, holdings, place = Story(seed), {}, 0
    for _ in range(120):
        story.tell(1)
        batch = [(c, 0, "e", n) for n, r in enumerate(story.told) if n >= place for c in evm_asset_changes(r)]
        batch = [(c, 0, "e", place * 100 + k) for k, (c, *_) in enumerate(batch)]
        holdings |= fold(holdings, batch)
        place = len(story.told)
        assert owned(holdings) == owners(story.final)
        assert owned({a: as_of_head(h) for a, h in holdings.items()}) == owners(story.standing())

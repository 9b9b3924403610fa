"""The assets role on a chain that takes blocks back: facts, what is pending, and SIGKILL in the midst of a reorg."""

import asyncio
import json
import urllib.error
import urllib.request

import pytest

from schemas.codec import local_codec
from tests.support.evm_story import CHAIN, NFT, Story
from tests.support.roles import bench
from topics.envelope import outgoing

pytestmark = pytest.mark.xdist_group("roles")

TOPIC = "evm.blocks.v1"
CODEC = local_codec()


def story_that_ends_in_a_reorg():
    """Lost blocks at the end, some of them minted what nobody else told of; unfinal ones above."""
    for seed in range(100):
        story = Story(seed).tell(60)
        while story.unfinal:
            story.finalise()
        kept = set(story.final[-1].owners)
        story.head(), story.head()
        lost = set(story.standing()[-1].owners) - kept
        cut = len(story.told)
        while story.unfinal:
            story.reorganise()
        story.head()
        if lost - set(story.standing()[-1].owners) and story.unfinal:
            return story, cut
    raise AssertionError("no such story")


def get(port, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/holdings/{path}", timeout=60) as answer:
        return json.loads(answer.read())


def owners(rows):
    return {row["asset"]: row["owner"] for row in rows if row["owner"] is not None}


def expected(block):
    return {f"{CHAIN}/erc721:{NFT}/{token}": owner for token, owner in block.owners.items()}


def test_holdings_follow_finality_through_a_kill_in_a_reorg(tmp_path):
    story, cut = story_that_ends_in_a_reorg()
    messages = [outgoing(CODEC, TOPIC, CHAIN, record, partition=0) for record in story.told]

    async def scenario():
        async with bench(tmp_path) as here:
            await here.publish(messages[:cut])
            assets = await here.start("assets")
            await here.applied(assets, TOPIC, cut)
            await here.publish(messages[cut:])
            await here.kill("assets")
            assets = await here.start("assets")
            await here.applied(assets, TOPIC, len(messages))
            await here.until(lambda: assets.behind(here.supervisor.targets()) == 0, "all folded")
            return await asyncio.to_thread(shown, here.web_port)

    rows, one, missing = asyncio.run(scenario())
    assert owners(rows) == expected(story.final[-1])
    assert owners(row["as_of_head"] for row in rows) == expected(story.standing()[-1])
    assert one in rows
    assert missing == 404


def shown(port):
    """All rows, one of them by its key, and the status for a token that nobody minted."""
    rows = get(port, "?kind=nft")["holdings"]
    one = get(port, f"one/?asset={rows[0]['asset']}")
    with pytest.raises(urllib.error.HTTPError) as refused:
        get(port, f"one/?asset={CHAIN}/erc721:{NFT}/99")
    return rows, one, refused.value.code

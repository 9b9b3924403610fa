"""The assets role tells the applications what chains did: to partition 0, with the same ids however often."""

import asyncio

import pytest

from pipeline.agents.runtime import SETUP_EXIT
from pipeline.domain.applications.observe import ledger_observations
from pipeline.ingest.apps_config import read_apps
from schemas.codec import local_codec
from tests.support.recorded import recorded_blocks
from tests.support.roles import PATIENCE_S, bench
from topics.envelope import outgoing
from topics.tail import tail

pytestmark = pytest.mark.xdist_group("roles")

LEDGERS, ACTIVITY, POSITIONS = "xrpl.ledgers.v1", "assets.activity.v1", "positions.events.v1"
CODEC = local_codec()
ISSUER = "r3tsSV8cfp3Ku9DJoT13vng3QodY4fD6uV"
APPS = f"""
[apps.cards]
title = "Cards"
issuers = ["xrpl:test/{ISSUER}", "xrpl:test/rxK2p84BePBuMiXTgdG1KcDcXMniKF4S4"]
treasuries = ["xrpl:test/{ISSUER}"]
attestors = ["xrpl:test/{ISSUER}"]
"""
DIGEST = "c4" * 32


@pytest.fixture(scope="module")
def blocks():
    """The recorded chain; one transaction of the attestor carries a digest."""
    found = list(recorded_blocks("xrpl:test"))
    tx = next(
        tx
        for block in found
        for tx in block["transactions"]
        if tx["account"] == ISSUER and tx["result"] == "tesSUCCESS"
    )
    tx["memos"] = [{"type": "tidebook/attestation", "format": "", "data": DIGEST.upper()}]
    return found


@pytest.fixture(scope="module")
def messages(blocks):
    return [outgoing(CODEC, LEDGERS, block["chain"], block, partition=0) for block in blocks]


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "apps.toml"
    path.write_text(APPS)
    return path


async def told(url, topic):
    return [CODEC.decode(value)[1] for value in (await tail(url, topic, 0)).values]


def by_topic(blocks, config):
    expected = {ACTIVITY: {}, POSITIONS: {}}
    for block in blocks:
        for emit in ledger_observations(block, read_apps(config)):
            expected[emit.topic][emit.record["event_id"]] = emit.record
    return expected


def in_order(records):
    """By id, the first telling of each, in order; told again it must say the same."""
    found = {}
    for record in records:
        assert found.setdefault(record["event_id"], record) == record
    return found


def test_told_once_or_again_after_a_kill_it_is_the_same(tmp_path, messages, blocks, config):
    expected = by_topic(blocks, config)

    async def scenario():
        async with bench(tmp_path / "data") as here:
            await here.publish(messages)
            assets = await here.start_another("assets", "first", TIDEBOOK_APPS_CONFIG=str(config))
            await here.until(lambda: assets.position.get(LEDGERS), "a first batch")
            assets.process.kill()
            await assets.process.wait()
            assets = await here.start_another("assets", "second", TIDEBOOK_APPS_CONFIG=str(config))
            await here.applied(assets, LEDGERS, len(messages))
            return [await told(here.url, topic) for topic in (ACTIVITY, POSITIONS)]

    activity, positions = asyncio.run(scenario())
    assert list(in_order(activity).items()) == [(id, whole(r)) for id, r in expected[ACTIVITY].items()]
    (confirmed,) = in_order(positions).values()
    assert confirmed["attestation_confirmed"]["attestation_id"] == DIGEST == confirmed["position_id"]
    assert [confirmed["event_id"]] == list(expected[POSITIONS])


def whole(record):
    """With the fields that other types have."""
    return CODEC.decode(CODEC.encode(ACTIVITY, record))[1]


def test_without_a_configuration_nothing_is_told(tmp_path, messages):
    async def scenario():
        async with bench(tmp_path / "data") as here:
            await here.publish(messages)
            assets = await here.start("assets")
            await here.applied(assets, LEDGERS, len(messages))
            return [await told(here.url, topic) for topic in (ACTIVITY, POSITIONS)]

    assert asyncio.run(scenario()) == [[], []]


def test_a_wrong_configuration_is_one_line(tmp_path, config):
    config.write_text(APPS.replace(ISSUER, ISSUER[:-1] + "W"))

    async def scenario():
        async with bench(tmp_path / "data") as here:
            assets = await here.start_another("assets", "wrong", TIDEBOOK_APPS_CONFIG=str(config))
            await asyncio.wait_for(assets.process.wait(), PATIENCE_S)
            await asyncio.wait(assets.readers)
            return assets.process.returncode, assets.last_words

    code, words = asyncio.run(scenario())
    assert code == SETUP_EXIT
    assert len(words) == 1 and f"setting TIDEBOOK_APPS_CONFIG={config}: apps.cards.issuers 1: " in words[0]

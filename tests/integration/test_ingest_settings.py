"""Settings that can't work: one clear line that names the setting, and an exit status that is not zero."""

import asyncio

import pytest

from pipeline.recorded_node import RecordedNode
from tests.support.demo import tidebook
from tests.support.ingest import LEDGERS, sea
from tests.support.truth import RECORDED
from topics.tail import last_message

pytestmark = pytest.mark.xdist_group("ingest")

CASES = {
    "no url": ({"TIDEBOOK_XRPL_URLS": ""}, 2, "TIDEBOOK_XRPL_URLS is empty"),
    "http": ({"TIDEBOOK_XRPL_URLS": "http://{at}"}, 2, "write the node's WebSocket one, ws://"),
    "no tls there": ({"TIDEBOOK_XRPL_URLS": "wss://{at}"}, 1, "is it ws:// rather than wss://?"),
    "nobody there": ({"TIDEBOOK_XRPL_URLS": "ws://127.0.0.1:1"}, 1, "TIDEBOOK_XRPL_URLS: no node answers"),
    "wrong network id": ({"TIDEBOOK_XRPL_NETWORK": "xrpl:1"}, 2, "is of network 0, not 1 (xrpl:1)"),
    "not mainnet": ({"TIDEBOOK_XRPL_NETWORK": "xrpl:0"}, 2, "is not of the chain xrpl:0"),
    "bad validator": ({"TIDEBOOK_XRPL_VALIDATORS": "nHnonsense"}, 2, "nHnonsense"),
    "no broker": ({"TIDEBOOK_KAFKA_URL": ""}, 2, "TIDEBOOK_KAFKA_URL is empty"),
    "bad level": ({"TIDEBOOK_XRPL_VERIFY": "some"}, 2, "setting TIDEBOOK_XRPL_VERIFY"),
}


def test_each_is_told_in_one_line(tmp_path):
    async def scenario():
        async with sea(tmp_path) as here, RecordedNode([RECORDED]) as node:
            at = node.url.partition("://")[2]
            plain = {"TIDEBOOK_KAFKA_URL": here.url, "TIDEBOOK_XRPL_URLS": node.url}
            arguments = (
                "ingest",
                "xrpl",
                "--from",
                "1",
                "--to",
                "9",
                "--data-dir",
                tmp_path / "data",
            )
            ended = {
                name: await asyncio.to_thread(
                    tidebook,
                    *arguments,
                    "--wait",
                    "3" if status == 1 else "60",
                    env={**plain, **{k: v.format(at=at) for k, v in env.items()}},
                )
                for name, (env, status, _) in CASES.items()
            }
            return ended, await last_message(here.url, LEDGERS, 0)

    ended, published = asyncio.run(scenario())
    assert published is None
    for name, (_, status, said) in CASES.items():
        assert ended[name].status == status, (name, ended[name])
        assert said in ended[name].err, (name, ended[name].err)
        assert len(ended[name].err.splitlines()) == 1, (name, ended[name].err)

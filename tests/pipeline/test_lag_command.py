"""`tidebook lag` where there is nothing to look at: one clear line and the right status."""

import asyncio
import json
import os
from pathlib import Path

import pytest

from pipeline.lag.heads import heads
from pipeline.lag.watch import NoBroker, Target, find_target
from pipeline.lag_command import Asked, lag
from pipeline.settings import read_settings


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for name in list(os.environ):
        if name.startswith("TIDEBOOK_"):
            monkeypatch.delenv(name)


def running(tmp_path: Path, **told):
    (tmp_path / "up.json").write_text(json.dumps(told))
    return read_settings(data_dir=tmp_path)


def test_no_broker_is_one_line_that_says_what_to_do(tmp_path, capsys):
    assert lag(read_settings(data_dir=tmp_path), Asked()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "TIDEBOOK_KAFKA_URL" in line and str(tmp_path) in line and "--data-dir" in line


def test_the_broker_of_what_runs_in_the_data_directory_is_found(tmp_path):
    told = {"pid": os.getpid(), "kafka_url": "127.0.0.1:9", "web": "http://x", "xrpl_urls": "ws://n:1"}
    settings = running(tmp_path, **told)
    assert find_target(settings) == Target("127.0.0.1:9", "ws://n:1")
    own = read_settings(data_dir=tmp_path, xrpl_urls="ws://own:1", xrpl_network="xrpl:0")
    assert find_target(own) == Target("127.0.0.1:9", "ws://own:1", "xrpl:0")
    named = read_settings(data_dir=tmp_path, kafka_url="broker:9092")
    assert find_target(named) == Target("broker:9092", "")


@pytest.mark.parametrize(
    "told",
    [
        {"pid": 2**22 + 1, "kafka_url": "127.0.0.1:9"},
        {"kafka_url": "127.0.0.1:9"},
        {"pid": os.getpid()},
        {"pid": "x"},
    ],
)
def test_what_a_killed_run_left_is_not_believed(tmp_path, told):
    with pytest.raises(NoBroker, match="no `tidebook up` runs"):
        find_target(running(tmp_path, **told))


def test_a_torn_file_is_not_believed(tmp_path):
    (tmp_path / "up.json").write_text('{"pid": 1, "kafka')
    with pytest.raises(NoBroker):
        find_target(read_settings(data_dir=tmp_path))


def test_a_broker_that_is_not_there_is_one_line(tmp_path, capsys):
    settings = read_settings(data_dir=tmp_path, kafka_url="127.0.0.1:1")
    assert lag(settings, Asked()) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("tidebook: TIDEBOOK_KAFKA_URL=127.0.0.1:1: ")


def test_a_malformed_broker_is_a_wrong_call(tmp_path, capsys):
    assert lag(read_settings(data_dir=tmp_path, kafka_url="http://x"), Asked()) == 2
    assert "TIDEBOOK_KAFKA_URL='http://x'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "asked", [Asked(serve=True, as_json=True), Asked(serve=True, watch=True), Asked(serve=True)]
)
def test_serving_needs_a_port_and_nothing_else(tmp_path, capsys, asked):
    assert lag(read_settings(data_dir=tmp_path, kafka_url="127.0.0.1:1"), asked) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--serve" in line or "TIDEBOOK_METRICS_PORT" in line


def test_of_urls_that_are_wrong_the_head_is_unknown():
    assert asyncio.run(heads("", [])) == ({}, [])
    found, problems = asyncio.run(heads("http://x", []))
    assert found == {} and "is an HTTP address" in problems[0]

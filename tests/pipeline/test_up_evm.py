"""`tidebook up` with EVM chains: which ingests run, what it shows of them, when it is through."""

from __future__ import annotations

import io
import json
from types import SimpleNamespace

import pytest
from rich.console import Console

from pipeline import up_command
from pipeline.ingest.chains import ChainRegister, chain_partitions
from pipeline.ingest.evm.config import read_config
from pipeline.settings import read_settings
from pipeline.up import Up, _environment, _partitions, _through, _told
from pipeline.up_command import _line, _table, run

FILE = """
[[chain]]
name = "eip155:{id}"
urls = ["http://127.0.0.1:1"]
start_block = 0
everything = true
"""


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for name in ("TIDEBOOK_KAFKA_URL", "TIDEBOOK_EVM_CONFIG", "TIDEBOOK_XRPL_URLS"):
        monkeypatch.delenv(name, raising=False)


def up_of(tmp_path, *ids: int, **settings) -> Up:
    up = Up(read_settings(data_dir=tmp_path, **settings), ["--from", "5"])
    if ids:
        path = tmp_path / "evm.toml"
        path.write_text("".join(FILE.format(id=number) for number in ids))
        up.settings = read_settings(data_dir=tmp_path, evm_config=path, **settings)
        up.evm = read_config(path, {})
    return up


def child(status=None, returncode=None, behind=0):
    return SimpleNamespace(
        status=status or {}, process=SimpleNamespace(returncode=returncode), behind=lambda targets: behind
    )


def with_children(up: Up, **children) -> Up:
    named = {name.replace("_", "-"): one for name, one in children.items()}
    up.supervisor = SimpleNamespace(children=named, targets=dict)
    return up


def test_which_ingests_run(tmp_path):
    xrpl, evm = ["ingest", "xrpl", "--from", "5"], ["ingest", "evm"]
    assert up_of(tmp_path).ingests == {"ingest": xrpl}
    assert up_of(tmp_path, 1).ingests == {"ingest-evm": evm}
    both = up_of(tmp_path, 1, xrpl_urls="ws://127.0.0.1:1")
    assert both.ingests == {"ingest": xrpl, "ingest-evm": evm}


def test_there_is_a_partition_for_every_chain(tmp_path):
    named = chain_partitions()
    assert _partitions(up_of(tmp_path).settings, []) == named
    many = [f"eip155:{number}" for number in range(100, 100 + named)]
    wanted = _partitions(up_of(tmp_path).settings, many)
    register = ChainRegister(tmp_path / "chains")
    assert wanted > max(register.evm_chain(name).partition for name in many)
    assert _partitions(up_of(tmp_path).settings, many) == wanted


def test_children_and_other_commands_are_told_the_file(tmp_path, monkeypatch):
    up = up_of(tmp_path, 1)
    monkeypatch.chdir(tmp_path)
    up.settings = read_settings(data_dir=tmp_path, evm_config="evm.toml")
    assert _environment(up, embedded=True)["TIDEBOOK_EVM_CONFIG"] == str(tmp_path / "evm.toml")
    with _told(up):
        assert json.loads((tmp_path / "up.json").read_text())["evm_config"] == str(tmp_path / "evm.toml")
    assert "TIDEBOOK_EVM_CONFIG" not in _environment(up_of(tmp_path), embedded=True)


STATUS = {
    "chains": {
        "eip155:1": {"block": 120, "final": 56, "blocks": 121, "transactions": 1500, "reorgs": 2, "too_deep": ""},
        "eip155:10": {"block": 9, "final": 9, "blocks": 10, "transactions": 0, "too_deep": "a fork below final"},
    }
}  # fmt: skip


def test_every_chain_has_a_line(tmp_path):
    up = up_of(tmp_path, 1, 10, 137)
    assert _line(up, 1.0) == "starting"
    with_children(up, ingest_evm=child(STATUS), books=child({"ready": True}), assets=child(), history=child())
    line = _line(up, 1.0)
    assert (
        "eip155:1 block 120 (final 56, 2 reorgs), 121 blocks, 1,500 transactions; eip155:10 block 9" in line
    )
    assert "a fork below final" in line and "eip155:137 starting" in line
    assert line.endswith("books 0, assets starting, history starting")
    console = Console(file=io.StringIO(), width=200)
    console.print(_table(up, 1.0))
    shown = console.file.getvalue()
    assert all(f"ingest {name} " in shown for name in ("eip155:1", "eip155:10", "eip155:137"))
    assert "final 56" in shown


def test_ledgers_and_blocks_stand_side_by_side(tmp_path):
    up = up_of(tmp_path, 1, xrpl_urls="ws://127.0.0.1:1")
    with_children(
        up, ingest=child({"block": 7, "verified_up_to": 6, "open_gap": [8, 9]}), ingest_evm=child(STATUS)
    )
    line = _line(up, None)
    assert line.startswith(
        "ended: ledger 7 (verified up to 6), 0 ledgers, 0 transactions; eip155:1 block 120"
    )
    assert line.endswith("OPEN GAP 8-9")


def test_it_is_through_when_every_ingest_has_ended_and_all_is_applied(tmp_path):
    up = up_of(tmp_path, 1, xrpl_urls="ws://127.0.0.1:1")
    ready = {name: child({"ready": True}) for name in ("books", "assets", "history")}
    done, going = child({"ended": True}, 0), child(STATUS)
    assert not _through(with_children(up, ingest=done, ingest_evm=going, **ready))
    assert _through(with_children(up, ingest=done, ingest_evm=child({"ended": True}, 0), **ready))
    late = {**ready, "history": child({"ready": True}, behind=1)}
    assert not _through(with_children(up, ingest=done, ingest_evm=child({"ended": True}, 0), **late))


def test_a_wrong_file_is_one_line_and_a_wrong_call(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(up_command, "console", Console(file=io.StringIO()))
    settings = read_settings(data_dir=tmp_path, evm_config=tmp_path / "nowhere.toml")
    assert run(settings, [], 0.5) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "TIDEBOOK_EVM_CONFIG" in line and "nowhere.toml" in line

"""`tidebook up` and its child `serve`: what it is told, what is shown of it, that nobody waits for it."""

import asyncio
import json
import socket
from types import SimpleNamespace

import pytest

from pipeline import up_command
from pipeline.api.journal import Entry, Journal
from pipeline.settings import read_settings
from pipeline.supervisor import ChildFailed, free_port
from pipeline.up import SERVE, Up, _addresses, _revive, _through, _told
from pipeline.up_command import _line, _table, run


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for name in ("KAFKA_URL", "EVM_CONFIG", "XRPL_URLS", "CLICKHOUSE_URL", "APPS_CONFIG", "API_PORT"):
        monkeypatch.delenv(f"TIDEBOOK_{name}", raising=False)


@pytest.fixture
def port():
    return free_port()


def up_of(tmp_path, port, **settings):
    return Up(read_settings(data_dir=tmp_path, api_port=port, **settings), [])


def child(status=None, returncode=None):
    return SimpleNamespace(
        status=status or {},
        process=SimpleNamespace(returncode=returncode),
        behind=lambda targets: 0,
        readers=[],
    )


def test_serve_alone_asks_the_history_role(tmp_path, port):
    up = up_of(tmp_path, port)
    _addresses(up)
    assert up.api == f"http://127.0.0.1:{port}"
    assert up.environment_of(SERVE) == {"TIDEBOOK_CLICKHOUSE_URL": up.clickhouse_url}
    assert up.environment_of("history") == {"TIDEBOOK_CLICKHOUSE_PORT": up.clickhouse_url.rpartition(":")[2]}
    for name in ("books", "assets", "ingest"):
        assert up.environment_of(name) == {}
    with _told(up):
        told = json.loads((tmp_path / "up.json").read_text())
    assert (told["api"], told["clickhouse_url"]) == (up.api, up.clickhouse_url)
    assert [up.arguments(name)[0] for name in (SERVE, "books", "ingest")] == ["serve", "work", "ingest"]


def test_a_server_of_clickhouse_is_everybodys_and_its_password_nobodys(tmp_path, port):
    up = up_of(tmp_path, port, clickhouse_url="http://me:secret@127.0.0.1:8123/tidebook")
    _addresses(up)
    assert up.environment_of(SERVE) == up.environment_of("history") == {}
    with _told(up):
        assert "secret" not in (tmp_path / "up.json").read_text()


def test_a_chosen_port_of_chdb_is_kept(tmp_path, port):
    up = up_of(tmp_path, port, clickhouse_port=18123)
    _addresses(up)
    assert up.clickhouse_url == "http://127.0.0.1:18123"


def test_a_taken_port_is_one_line(tmp_path, port, capsys):
    with socket.create_server(("127.0.0.1", port)):
        assert run(read_settings(data_dir=tmp_path, api_port=port), [], 0.5) == 1
    said = capsys.readouterr().err.strip()
    assert "\n" not in said
    assert f"setting TIDEBOOK_API_PORT: can't listen on 127.0.0.1:{port}: " in said and "another port" in said


def test_a_wrong_configuration_of_applications_is_told_before_anything_runs(tmp_path, port, capsys):
    path = tmp_path / "apps.toml"
    path.write_text("[apps.cards]\n")
    assert run(read_settings(data_dir=tmp_path, api_port=port, apps_config=path), [], 0.5) == 2
    said = capsys.readouterr().err.strip()
    assert f"setting TIDEBOOK_APPS_CONFIG={path}: apps.cards.title: missing" in said and "\n" not in said
    assert not (tmp_path / "logs").exists()


def test_nobody_waits_for_serve(tmp_path, port):
    up = up_of(tmp_path, port)
    done = child({"ended": True, "ready": True}, 0)
    roles = {name: child({"ready": True}) for name in ("books", "assets", "history")}
    up.supervisor = SimpleNamespace(children={"ingest": done, SERVE: child(), **roles}, targets=dict)
    assert _through(up)


@pytest.mark.parametrize(("code", "again"), [(-9, True), (75, True), (2, False), (0, False)])
def test_a_killed_serve_is_started_again_a_defect_ends_everything(tmp_path, port, code, again):
    up, started = up_of(tmp_path, port), []

    async def start(name, arguments, env):
        started.append((name, arguments, *env))

    def check():
        raise ChildFailed("role serve ended")

    async def scenario():
        dead = child(returncode=code)
        dead.readers = [asyncio.create_task(asyncio.sleep(0))]
        up.supervisor = SimpleNamespace(children={SERVE: dead}, start=start, check=check)
        await _revive(up)

    _addresses(up)
    if again:
        asyncio.run(scenario())
        assert started == [(SERVE, ["serve"], "TIDEBOOK_CLICKHOUSE_URL")]
    else:
        with pytest.raises(ChildFailed):
            asyncio.run(scenario())
        assert started == []


def test_what_is_shown_of_it(tmp_path, port):
    up = up_of(tmp_path, port)
    _addresses(up)
    roles = {name: child({"ready": True}) for name in ("books", "assets", "history", "ingest")}
    up.supervisor = SimpleNamespace(children={SERVE: child(), **roles}, targets=dict)
    assert f"; api {up.api}: starting; messages behind" in _line(up, 1.0)
    up.supervisor.children[SERVE] = child({"ready": True})
    assert "0 events accepted;" in _line(up, 1.0)
    journal = Journal(tmp_path / "intake")
    entry = Entry("assets.activity.v1", "me", "", "", b"", b"key", b"value", (), 0)
    journal.append([entry._replace(event_id=str(n), idempotency_key=str(n)) for n in range(1234)])
    journal.close()
    up.republished = 56
    said = "1,234 events accepted, 56 of former lives told again"
    assert f"; api {up.api}: {said}; messages behind" in _line(up, 1.0)
    table = _table(up, 1.0)
    assert up.api in str(table.title)
    assert said in [str(cell) for cell in table.columns[3].cells]
    assert up_command.SERVE in [str(cell) for cell in table.columns[0].cells]

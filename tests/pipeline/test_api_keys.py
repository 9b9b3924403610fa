"""API keys: what is kept, who is found, how soon a revoked one is not."""

import re
import sqlite3
from contextlib import closing

import orjson
import pytest

from pipeline.api.client import ApiError, Client
from pipeline.api.keys import LOOK_S, SCOPES, KeyFault, Keys
from pipeline.keys_command import create_key, list_keys, revoke_key
from pipeline.settings import Settings


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def keys(tmp_path):
    with closing(Keys(tmp_path / "keys.db")) as made:
        yield made


def test_a_key_is_found_and_nothing_of_it_is_kept(tmp_path, keys):
    key, text = keys.create("acme", "u1", ["assets:write"], 25)
    assert re.fullmatch(r"tbk_[A-Za-z0-9_-]{43}", text)
    assert keys.find(text) == key.client == Client("acme", "u1", frozenset({"assets:write"}), 25)
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert text.encode() not in kept and text[4:].encode() not in kept
    assert (tmp_path / "keys.db").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "text", ["", "tbk_", "tbk_" + "A" * 43, "tbk_" + "A" * 42, "x" * 47, "tbk_" + "é" * 43]
)
def test_what_is_no_key_is_not_found(keys, text):
    keys.create("acme", scopes=["root"])
    assert keys.find(text) is None


def test_two_keys_are_never_the_same(keys):
    assert len({keys.create("acme", scopes=["root"])[1] for _ in range(50)}) == 50


def test_another_process_creates_and_revokes(tmp_path):
    clock = Clock()
    with closing(Keys(tmp_path / "keys.db", clock)) as server, closing(Keys(tmp_path / "keys.db")) as other:
        key, text = other.create("acme", scopes=["assets:write"])
        assert server.find(text) is not None
        other.revoke(key.id)
        clock.now += LOOK_S
        assert server.find(text) is None
        later = other.create("acme", scopes=["assets:write"])[1]
        clock.now += LOOK_S
        assert server.find(later) is not None and LOOK_S < 1


@pytest.mark.parametrize(
    ("client", "user", "scopes", "rate", "named"),
    [
        ("", "", ["root"], 0, "client"),
        ("a b", "", ["root"], 0, "client"),
        ("x" * 65, "", ["root"], 0, "client"),
        ("clock", "", ["root"], 0, "pipeline's own"),
        ("chain", "", ["root"], 0, "pipeline's own"),
        ("acme", "u\n", ["assets:write"], 0, "user"),
        ("acme", "", [], 0, "scope"),
        ("acme", "", ["assets:wrote"], 0, "assets:wrote"),
        ("acme", "u1", ["service"], 0, "service"),
        ("acme", "u1", ["root"], 0, "root"),
        ("acme", "", ["root"], -1, "rate"),
        ("acme", "", ["root"], float("nan"), "rate"),
        ("acme", "", ["root"], float("inf"), "rate"),
    ],
)
def test_a_wrong_key_is_refused_by_name(keys, client, user, scopes, rate, named):
    with pytest.raises(KeyFault, match=named):
        keys.create(client, user, scopes, rate)
    assert keys.all() == []


def test_scopes_say_what_they_stand_for():
    assert {"assets:write", "gas:read", "bank:read", "people:write", "service", "root"} <= set(SCOPES)
    service, root = Client("s", scopes=frozenset({"service"})), Client("r", scopes=frozenset({"root"}))
    assert service.may("anchors:write") and not service.may("gas:read")
    assert root.may("bank:read") and not root.may("assets:write")


def test_a_header_names_itself():
    assert ApiError(429, "slow", "x", Retry_After="1").headers == {"Retry-After": "1"}


def test_the_commands(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    settings = Settings(data_dir=tmp_path)
    assert create_key(settings, "acme", "u1", ["assets:write", "tokens:read"], 5, False) == 0
    out = capsys.readouterr()
    text = out.out.strip()
    assert text.startswith("tbk_") and "only time" in out.err
    assert list_keys(settings, True) == 0
    (row,) = [orjson.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (row["client"], row["user"], row["scopes"], row["rate_per_s"], row["revoked"]) == (
        "acme", "u1", ["assets:write", "tokens:read"], 5.0, None,
    )  # fmt: skip
    assert text not in str(row)
    assert create_key(settings, "ben", "[red]b[/red]", ["assets:write"], 0, True) == 0
    capsys.readouterr()
    assert list_keys(settings, False) == 0
    shown = capsys.readouterr().out
    assert "acme" in shown and "[red]b[/red]" in shown
    assert revoke_key(settings, row["id"]) == 0 and "revoked" in capsys.readouterr().out
    assert revoke_key(settings, row["id"]) == 0
    assert revoke_key(settings, "nobody") == 2
    assert "tidebook: there is no key 'nobody'" in capsys.readouterr().err
    assert create_key(settings, "acme", "", ["fly"], 0, True) == 2
    with closing(Keys(settings.intake_dir / "keys.db")) as keys:
        assert keys.find(text) is None


def test_a_directory_that_is_a_file_is_told_in_a_line(tmp_path, capsys):
    (tmp_path / "intake").write_text("")
    assert list_keys(Settings(data_dir=tmp_path), False) == 1
    assert "TIDEBOOK_DATA_DIR" in capsys.readouterr().err
    (tmp_path / "b" / "intake").mkdir(parents=True)
    (tmp_path / "b" / "intake" / "keys.db").write_bytes(b"no database" * 100)
    assert list_keys(Settings(data_dir=tmp_path / "b"), False) == 1
    with pytest.raises(sqlite3.Error):
        Keys(tmp_path / "b" / "intake" / "keys.db")

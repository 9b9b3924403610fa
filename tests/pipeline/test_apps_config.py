"""TIDEBOOK_APPS_CONFIG: what it gives, and the one line that each fault gets."""

from pathlib import Path

import pytest

from pipeline.domain.applications.apps import App, Apps, app_events
from pipeline.ingest.apps_config import AppsConfigError, read_apps

ACCOUNT = "rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh"
EVM = "0xBC4CA0EdA7647A8aB7C2061c2E118A18a936f13D"
GOOD = f"""
[apps.cards]
title = "Cards"
issuers = ["xrpl:0/{ACCOUNT}", "eip155:1/{EVM}"]
treasuries = ["xrpl:0/{ACCOUNT}"]

[apps."mint.lings"]
title = "Mintlings"
attestors = ["xrpl:devnet/{ACCOUNT}"]
"""


def read(tmp_path, text):
    path = tmp_path / "apps.toml"
    path.write_text(text)
    return read_apps(path)


def test_what_a_file_says(tmp_path):
    apps = read(tmp_path, GOOD)
    assert apps.apps == (
        App("cards", "Cards", (f"xrpl:0/{ACCOUNT}", f"eip155:1/{EVM.lower()}"), (f"xrpl:0/{ACCOUNT}",)),
        App("mint.lings", "Mintlings", attestors=(f"xrpl:devnet/{ACCOUNT}",)),
    )
    assert apps.issuers == {f"xrpl:0/{ACCOUNT}": "cards", f"eip155:1/{EVM.lower()}": "cards"}
    assert apps.attestors == {f"xrpl:devnet/{ACCOUNT}": "mint.lings"}
    assert apps


def test_none_without_a_file():
    assert read_apps(None) == Apps() and not read_apps(None)


def test_the_example_is_right():
    apps = read_apps(Path(__file__).parents[2] / "deploy/apps.example.toml")
    assert [app.id for app in apps.apps] == ["mintlings"]
    assert apps.issuers and apps.treasuries and apps.attestors


CARDS = '[apps.cards]\ntitle = "Cards"\n'


@pytest.mark.parametrize(("text", "said"), [
    ("apps = ", "is no TOML"),
    ("", "apps: missing"),
    ("app = 1", "app: no such key; applications are written [apps.<id>]"),
    ("apps = 1", "apps: missing"),
    ("[apps]", "apps: missing"),
    ("[apps]\ncards = 1", "apps.cards: must be a table"),
    ('[apps."a b"]\ntitle = "x"', "apps.a b: an id has letters"),
    ("[apps.cards]", "apps.cards.title: missing"),
    ("[apps.cards]\ntitle = 1", "apps.cards.title: missing"),
    (CARDS + "issuer = []", "apps.cards.issuer: no such key; there are title, issuers, treasuries, attestors"),
    (CARDS + 'issuers = "xrpl:0/r"', "apps.cards.issuers: must be a list"),
    (CARDS + "issuers = [1]", "apps.cards.issuers: must be a list"),
    (CARDS + f'issuers = ["{ACCOUNT}"]', "apps.cards.issuers 1: "),
    (CARDS + f'issuers = ["xrpl/{ACCOUNT}"]', "apps.cards.issuers 1: 'xrpl' names no chain"),
    (CARDS + f'issuers = ["xrpl:0/{ACCOUNT}", "xrpl:0/{ACCOUNT[:-1]}H"]', "apps.cards.issuers 2: "),
    (CARDS + f'issuers = ["xrpl:0/{EVM}"]', "is no XRPL account"),
    (CARDS + f'treasuries = ["eip155:1/{ACCOUNT}"]', "apps.cards.treasuries 1: "),
    (CARDS + 'treasuries = ["eip155:1/0x12"]', "is no EVM address"),
    (CARDS + f'attestors = ["eip155:1/{EVM}"]', "apps.cards.attestors 1: digests are read from XRPL memos"),
    (GOOD + f'issuers = ["eip155:1/{EVM.upper().replace("0X", "0x")}"]',
     "apps.mint.lings.issuers: eip155:1/0xbc4ca0eda7647a8ab7c2061c2e118a18a936f13d is named by apps.cards already"),
    (CARDS + f'issuers = ["xrpl:0/{ACCOUNT}", "xrpl:0/{ACCOUNT}"]', "is named by apps.cards already; keep one"),
])  # fmt: skip
def test_a_fault_is_one_line_that_names_setting_and_key(tmp_path, text, said):
    with pytest.raises(AppsConfigError) as caught:
        read(tmp_path, text)
    line = str(caught.value)
    assert line.startswith(f"setting TIDEBOOK_APPS_CONFIG={tmp_path / 'apps.toml'}: ")
    assert said in line and "\n" not in line


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(AppsConfigError, match=r"can't be read: No such file.*deploy/apps\.example\.toml"):
        read_apps(tmp_path / "none.toml")


def test_registrations_are_named_by_their_content(tmp_path):
    apps = read(tmp_path, GOOD)
    cards, mints = app_events(apps)
    assert {**cards, "idempotency_key": ""} == {
        "type": "APP_REGISTERED", "asset_id": "cards", "idempotency_key": "",
        "data": {"title": "Cards", "issuers": list(apps.apps[0].issuers), "treasuries": [f"xrpl:0/{ACCOUNT}"]},
    }  # fmt: skip
    assert app_events(apps) == [cards, mints]
    (changed, _) = app_events(read(tmp_path, GOOD.replace('"Cards"', '"Card"')))
    assert changed["idempotency_key"] != cards["idempotency_key"]
    assert len({one["idempotency_key"] for one in (cards, mints)}) == 2

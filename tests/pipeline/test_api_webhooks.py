"""Signed deliveries: what is signed, how long it is good, that it is taken in once, and what its file may say."""

import re
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.api.client import ApiError, Client
from pipeline.api.webhooks import Deliveries, Webhook, WebhooksError, read_webhooks, sign, verify
from pipeline.catalog import APPLICATIONS

NOW = 1_714_564_800
OLD, NEW = b"an-old-secret-of-ours", b"the-secret-of-today"
HOOK = Webhook("bank", APPLICATIONS[0], Client("bank"), (NEW, OLD), 300)
BODY = b'{"type":"X"}'


def refusal(header, body=BODY, now=NOW):
    with pytest.raises(ApiError) as caught:
        verify(HOOK, header, body, now)
    assert caught.value.field == "Tidebook-Signature"
    return caught.value.status, caught.value.reason


def test_a_signature_of_a_known_vector():
    # printf '1714564800.{"type":"X"}' | openssl dgst -sha256 -hmac the-secret-of-today
    assert sign(NEW, NOW, BODY) == VECTOR


VECTOR = "t=1714564800,v1=80649a264bad6c045d92b9aceca58841cf1bc09ff179d879b396f2fc7684307d"


def test_either_secret_signs_and_several_signatures_may_come():
    assert verify(HOOK, sign(NEW, NOW, BODY), BODY, NOW) == verify(HOOK, sign(OLD, NOW, BODY), BODY, NOW)
    good = sign(OLD, NOW, BODY).partition(",")[2]
    assert verify(HOOK, f"t={NOW},v1={'0' * 64},{good}", BODY, NOW)
    assert verify(HOOK, f"{good} , t={NOW},v0=abc", BODY, NOW)


@pytest.mark.parametrize(
    "header",
    [
        "", "t=1", "v1=" + "0" * 64, f"t={NOW},v1=", f"t={NOW},v1={'0' * 64}", f"t={NOW},v1={'G' * 64}",
        f"t=-1,v1={'0' * 64}", f"t={NOW},t={NOW},v1={'0' * 64}", f"t={'9' * 400},v1={'0' * 64}", f"t=١,v1={'0' * 64}",
        f"t={NOW}," + "v1=0," * 50,
    ],
)  # fmt: skip
def test_what_is_not_signed_is_refused(header):
    assert refusal(header) == (401, "bad_signature")


def test_no_header():
    assert refusal(None) == (401, "unsigned")


@given(st.integers(0, len(BODY) - 1), st.integers(1, 255))
def test_a_changed_body_is_not_signed(place, change):
    changed = BODY[:place] + bytes([BODY[place] ^ change]) + BODY[place + 1 :]
    assert refusal(sign(NEW, NOW, BODY), changed) == (401, "bad_signature")


def test_another_time_is_not_signed():
    header = sign(NEW, NOW, BODY).replace(str(NOW), str(NOW + 1))
    assert refusal(header) == (401, "bad_signature")


@pytest.mark.parametrize(("off", "good"), [(0, True), (300, True), (-300, True), (301, False), (-301, False)])
def test_a_time_is_good_for_a_while(off, good):
    header = sign(NEW, NOW + off, BODY)
    if good:
        assert verify(HOOK, header, BODY, NOW)
    else:
        assert refusal(header) == (401, "stale")


class Clock:
    now = float(NOW)

    def __call__(self):
        return self.now


def test_a_delivery_is_taken_in_once_also_after_a_restart(tmp_path):
    clock, name = Clock(), verify(HOOK, sign(NEW, NOW, BODY), BODY, NOW)
    with closing(Deliveries(tmp_path / "w.db", clock)) as memory:
        memory.begin(name)
        with pytest.raises(ApiError) as caught:  # at the same time
            memory.begin(name)
        assert (caught.value.status, caught.value.reason) == (409, "replayed")
        memory.end(name, HOOK, answered=False)  # a 503: it may come again
        memory.begin(name)
        memory.end(name, HOOK, answered=True)
    with closing(Deliveries(tmp_path / "w.db", clock)) as memory:
        clock.now += 600  # signed in our future, it would be good until now
        with pytest.raises(ApiError):
            memory.begin(name)
        clock.now += 2
        memory.begin(b"other")
        memory.end(b"other", HOOK, answered=True)
        memory.begin(name)  # forgotten, for its time is not good any more
        assert refusal(sign(NEW, NOW + 300, BODY), now=clock.now) == (401, "stale")


ENV = {"A": "a-secret-that-is-long", "B": "another-long-secret", "SHORT": "short"}
GOOD = '[[webhook]]\nname = "bank"\ntopic = "positions.events.v1"\nclient = "bank"\nsecret_env = "A"\n'


def test_a_file(tmp_path):
    path = tmp_path / "w.toml"
    path.write_text(
        GOOD
        + GOOD.replace('"bank"', '"kyc"')
        .replace('"A"', '["A", "B"]')
        .replace("positions.events.v1", "tokens")
    )
    bank, kyc = read_webhooks(path, ENV).values()
    assert (bank.name, bank.row.domain, bank.client.id, bank.tolerance_s) == (
        "bank",
        "positions",
        "bank",
        300,
    )
    assert (kyc.row.domain, kyc.secrets, kyc.source) == (
        "tokens", (b"a-secret-that-is-long", b"another-long-secret"), "webhook:kyc",
    )  # fmt: skip
    assert bank.client.may("positions:write") and "service" in bank.client.scopes and not bank.client.user_id


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x", "no TOML"),
        ("", "webhook"),
        (GOOD + "more = 1\n", "more"),
        (GOOD.replace("positions.events.v1", "evm.blocks.v1"), "evm.blocks.v1"),
        (GOOD.replace('client = "bank"', 'client = "clock"'), "pipeline's own"),
        (GOOD.replace('name = "bank"', 'name = "B/ank"'), "name"),
        (GOOD.replace('"A"', '"SHORT"'), "SHORT is too short"),
        (GOOD.replace('"A"', '"NONE"'), "NONE is empty"),
        (GOOD.replace('"A"', "[]"), "secret_env"),
        (GOOD + GOOD, "twice"),
        (GOOD + "tolerance_s = 0\n", "tolerance_s"),
    ],
)
def test_a_wrong_file_is_told_in_a_line(tmp_path, text, said):
    path = tmp_path / "w.toml"
    path.write_text(text)
    with pytest.raises(WebhooksError) as caught:
        read_webhooks(path, ENV)
    line = str(caught.value)
    assert line.startswith(f"setting TIDEBOOK_WEBHOOKS_CONFIG={path}: ") and said in line and "\n" not in line
    assert not any(secret in line for secret in ENV.values() if len(secret) > 5)


def test_no_file(tmp_path):
    with pytest.raises(WebhooksError, match="can't be read"):
        read_webhooks(tmp_path / "none.toml", ENV)


def test_the_example_is_right():
    example = Path(__file__).parents[2] / "deploy" / "webhooks.example.toml"
    hooks = read_webhooks(
        example, dict.fromkeys(re.findall(r"[A-Z_]+SECRET[A-Z_]*", example.read_text()), "s" * 20)
    )
    assert list(hooks) == ["bank", "kyc"]

"""What a fulfilment's signature proves, and every way to make one that proves nothing."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pipeline.domain.anchors.signature import check_public_key, check_signature, message
from pipeline.domain.flows.events import Refusal

P, ORDER = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493  # RFC 8032, 5.1
KEY, OTHER = (Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2))
PUBLIC = KEY.public_key().public_bytes_raw().hex()
SIGNED = message("auth-1", "GROCERY", "100", "receipt 7", 1_800_000_000_000)
ORDER_8 = "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"
WEAK = {
    "the neutral element": "01" + "00" * 31,
    "order 2": (P - 1).to_bytes(32, "little").hex(),
    "order 4": "00" * 32,
    "order 4, other sign": "00" * 31 + "80",
    "order 8": ORDER_8,
    "order 8, other sign": ORDER_8[:-2] + "85",
    "the neutral element, not canonical": (P + 1).to_bytes(32, "little").hex(),
    "order 4, not canonical": P.to_bytes(32, "little").hex(),
    "the neutral element with a sign": "01" + "00" * 30 + "80",
    "no point of the curve": "02" + "00" * 31,
}


def refused(signature: str, signed: bytes = SIGNED, public: str = PUBLIC) -> bool:
    try:
        check_signature(public, signature, signed, "data.signature")
    except Refusal as refusal:
        assert (refusal.reason, refusal.field) == ("bad_signature", "data.signature")
        return True
    return False


@pytest.mark.parametrize("name", WEAK)
def test_a_key_that_anybody_could_sign_for_is_no_key(name: str) -> None:
    with pytest.raises(Refusal) as told:
        check_public_key(WEAK[name], "data.public_key")
    assert (told.value.reason, told.value.field) == ("bad_key", "data.public_key")


def test_under_the_weakest_key_a_signature_of_anything_is_made_without_a_secret() -> None:
    """Why such keys are refused where an attestor is registered: the library takes them."""
    assert not refused("01" + "00" * 63, b"anything", WEAK["the neutral element"])


def test_true_keys_are_keys_and_their_other_form_is_the_same_key() -> None:
    for n in range(1, 20):
        key = Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32).public_key()
        check_public_key(key.public_bytes_raw().hex(), "data.public_key")
    check_public_key(PUBLIC.upper(), "data.public_key")


def test_a_signature_is_of_its_key_and_of_one_fulfilment() -> None:
    good = KEY.sign(SIGNED).hex()
    assert not refused(good) and not refused(good.upper())
    assert refused(OTHER.sign(SIGNED).hex())
    said: tuple[str, str, str, str, int] = ("auth-1", "GROCERY", "100", "receipt 7", 1_800_000_000_000)
    for place, other in enumerate(("auth-2", "FUEL", "101", "receipt 8", 1_800_000_000_001)):
        changed = message(*(*said[:place], other, *said[place + 1 :]))  # type: ignore[arg-type]
        assert refused(good, changed), other
    assert refused(KEY.sign(SIGNED.partition(b"\n")[2]).hex()), "the first line is signed too"


def test_a_signature_has_one_form() -> None:
    """S + the group's order verifies by arithmetic alone: RFC 8032 refuses it, so nobody makes a second signature."""
    good = KEY.sign(SIGNED)
    more = int.from_bytes(good[32:], "little") + ORDER
    assert refused(good[:32].hex() + more.to_bytes(32, "little").hex())
    for text in (
        "",
        good.hex()[:-2],
        good.hex() + "00",
        "0x" + good.hex()[2:],
        good.hex()[:-1] + " ",
        "é" * 128,
    ):
        assert refused(text), text

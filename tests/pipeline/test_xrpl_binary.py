"""The binary decoder at its edges: what is cut off, goes on too long, or is no object is refused."""

from __future__ import annotations

import gzip
import json

import pytest

from pipeline.domain.decode.xrpl_binary import decode_object
from pipeline.domain.decode.xrpl_errors import Malformed
from pipeline.domain.xrpl_encode import encode_metadata, encode_transaction
from tests.support.truth import RECORDED


def recorded_blobs() -> list[bytes]:
    """One transaction and its metadata for each type in the recorded chain."""
    found = {}
    with gzip.open(RECORDED) as lines:
        for line in lines:
            for entry in json.loads(line)["ledger"]["transactions"]:
                found.setdefault(entry["tx_json"]["TransactionType"], entry)
    entries = found.values()
    return [
        *(encode_transaction(entry["tx_json"]) for entry in entries),
        *(encode_metadata(entry["meta"]) for entry in entries),
    ]


BLOBS = recorded_blobs()


def test_every_type_is_there() -> None:
    assert len(BLOBS) > 80


@pytest.mark.parametrize("blob", BLOBS, ids=range(len(BLOBS)))
def test_cut_off_anywhere_is_refused_or_ends_between_fields(blob: bytes) -> None:
    """A shorter object is only read where the cut lies between two of its fields."""
    whole = decode_object(blob.hex())
    for length in range(len(blob)):
        try:
            part = decode_object(blob[:length].hex())
        except Malformed:
            continue
        assert part == dict(list(whole.items())[: len(part)]) and len(part) < len(whole)


@pytest.mark.parametrize("blob", BLOBS[::9], ids=range(len(BLOBS[::9])))
def test_more_than_an_object_is_refused(blob: bytes) -> None:
    for more in ("E1", "E1E1", "F1", "00", "E11203E7"):
        with pytest.raises(Malformed):
            decode_object(blob.hex() + more)


def test_hex_may_be_written_in_any_way() -> None:
    assert decode_object("12 03e7\n24 0000000a") == {"TransactionType": "Unknown_999", "Sequence": 10}
    assert decode_object("") == {}


@pytest.mark.parametrize("item", ["2400000001E1", "E1", "F1E1", "0F10E1"])
def test_an_array_holds_objects_only(item: str) -> None:
    """Sequence, an end of an object, an array's end within, and a field of unknown type."""
    with pytest.raises(Malformed):
        decode_object("F8" + item + "F1")

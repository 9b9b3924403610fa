"""Decoding does not depend on names or order, and never fails in another way than RecordedError."""

import copy
import gzip
import io
import json
from contextlib import suppress
from pathlib import Path

import fastavro
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.domain.decode.xrpl import decode_ledger, decode_transaction
from pipeline.domain.decode.xrpl_binary import decode_object
from pipeline.domain.decode.xrpl_errors import RecordedError

DATA = Path(__file__).parents[1] / "data" / "xrpl"
SCHEMA = json.loads((DATA.parents[2] / "schemas" / "xrpl" / "ledgers.avsc").read_text())
PARSED = fastavro.parse_schema(SCHEMA)
EFFECTS = ("balance_changes", "nft_changes", "mpt_changes", "object_changes", "unexplained", "fee")


def load(name):
    return json.loads(gzip.decompress((DATA / name).read_bytes()))


def write_avro(header, records):
    ledger = {
        **header,
        "chain": "xrpl:test",
        "chain_number": 1,
        "run": header["ledger_index"],
        "chunk": 0,
        "chunks": 1,
        "transaction_count": len(records),
        "fees": sum(record["fee"] for record in records),
        "decoder_version": 1,
        "transactions": records,
    }
    fastavro.schemaless_writer(io.BytesIO(), PARSED, ledger, strict_allow_default=True)


def singles():
    return sorted((DATA / "transactions").glob("*.json")) + sorted(
        (DATA / "transactions_modern").glob("*.json")
    )


LEDGERS = [
    "ledgers/11119607.json.gz",
    "ledgers_2013/309936.json.gz",
    "ledgers_modern/87704323.json.gz",
    "ledgers_modern_v2/104552600.json.gz",
    "ledgers_binary/104552600.json.gz",
]


@pytest.mark.parametrize("name", LEDGERS)
def test_records_are_of_the_schema(name):
    header, records = decode_ledger(load(name))
    write_avro(header, records)


@pytest.mark.parametrize("path", singles(), ids=lambda path: path.stem)
def test_single_records_are_of_the_schema(path):
    write_avro({"ledger_index": 1, "close_time": 0}, [decode_transaction(json.loads(path.read_bytes()))])


@pytest.mark.parametrize("name", [name for name in LEDGERS if "binary" not in name])
def test_renamed_transaction_types_have_the_same_effects(name):
    recorded = load(name)
    _, before = decode_ledger(recorded)
    for item in recorded["result"]["ledger"]["transactions"]:
        item.get("tx_json", item)["TransactionType"] = "FutureThing"
    _, after = decode_ledger(recorded)
    for one, other in zip(before, after, strict=True):
        assert other["type"] == "FutureThing"
        assert [one[part] for part in EFFECTS] == [other[part] for part in EFFECTS]


def test_order_of_the_recording_does_not_matter():
    recorded = load("ledgers_modern_v2/104552600.json.gz")
    _, before = decode_ledger(recorded)
    recorded["result"]["ledger"]["transactions"].reverse()
    assert decode_ledger(recorded)[1] == before


def test_an_unknown_type_that_holds_xrp_is_found_exactly():
    """Every escrow and channel renamed to a type not known: what it held is what is unexplained."""
    renamed = 0
    for path in singles():
        recorded = json.loads(path.read_bytes())
        known = decode_transaction(recorded)
        text = path.read_text().replace('"LedgerEntryType":"Escrow"', '"LedgerEntryType":"Strongroom"')
        text = text.replace('"LedgerEntryType":"PayChannel"', '"LedgerEntryType":"Strongroom"')
        unknown = decode_transaction(json.loads(text))
        moved = [row for row in known["object_changes"] if row["held_asset"] == "XRP"]
        held = sum(int(row["held_after"]) - int(row["held_before"]) for row in moved)
        assert unknown["unexplained"] == held
        if held:
            renamed += 1
            assert unknown["unexplained_entry"] == moved[0]["entry_id"]
            assert unknown["unexplained_type"] == "Strongroom"
    assert renamed >= 4


def test_binary_of_an_unknown_kind_stays_readable():
    """TransactionType 999 and entry type 0x9999 with a field of unknown number of a known type."""
    assert decode_object("1203E7")["TransactionType"] == "Unknown_999"
    nodes = decode_object("F8E3119999" + "20FF00000005" + "E1F1")["AffectedNodes"]
    assert nodes == [{"CreatedNode": {"LedgerEntryType": "Unknown_39321", "Field_2_255": 5}}]
    for broken in ("12", "1", "zz", "0FFF", "E1" * 3, "F8E3" * 40, "7340"):
        with pytest.raises(RecordedError):
            decode_object(broken)


def paths_of(value, path=()):
    """Every place in a JSON value."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from paths_of(item, (*path, key))


SAMPLES = [json.loads(path.read_bytes()) for path in singles() if path.stat().st_size < 9000]
SAMPLES.append({"result": {"ledger": {**load("ledgers_2013/309936.json.gz")["result"]["ledger"]}}})
PLACES = [list(paths_of(sample)) for sample in SAMPLES]
JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(
        ["", "-", "1e9999", "-5", "9" * 30, "1_0", [], {}, [{}], {"value": "x"}, [None], "\ud800"]
    ),
)


@settings(max_examples=600, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_mutated_recordings_raise_nothing_but_recorded_errors(data):
    number = data.draw(st.integers(0, len(SAMPLES) - 1))
    recorded = copy.deepcopy(SAMPLES[number])
    for _ in range(data.draw(st.integers(1, 3))):
        *parents, last = data.draw(st.sampled_from(PLACES[number][1:]))
        target = recorded
        try:
            for key in parents:
                target = target[key]
            if data.draw(st.booleans()):
                target[last] = copy.deepcopy(data.draw(JUNK))
            else:
                del target[last]
        except (LookupError, TypeError):
            continue
    try:
        if number == len(SAMPLES) - 1:
            header, records = decode_ledger(recorded)
        else:
            header, records = {"ledger_index": 1, "close_time": 0}, [decode_transaction(recorded)]
    except RecordedError:
        return
    if "\\ud800" not in ascii(records):
        write_avro(header, records)
        orjson.dumps([{**record, "raw": None} for record in records])


@settings(max_examples=300)
@given(st.binary(max_size=60))
def test_any_bytes_as_binary(data):
    with suppress(RecordedError):
        decode_object(data.hex())

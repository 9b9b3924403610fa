"""`tidebook decode xrpl FILE...`: what it prints, in which order, its exit status; reading of files."""

import gzip
import io
import json
from pathlib import Path

import pytest

from pipeline.decode_command import decode_files
from pipeline.domain.decode.xrpl import decode_ledger
from pipeline.domain.decode.xrpl_errors import NotALedger, RecordedError, Truncated
from pipeline.ingest.recorded import read_ledgers, recorded_files

DATA = Path(__file__).parents[1] / "data" / "xrpl"
LEDGER = DATA / "ledgers" / "11119607.json.gz"


def decode(*paths):
    out = io.StringIO()
    status = decode_files(paths, out)
    return status, [json.loads(line) for line in out.getvalue().splitlines()]


def recorded(path=LEDGER):
    return json.loads(gzip.decompress(path.read_bytes()))


def test_rows_are_the_contract():
    status, rows = decode(LEDGER)
    assert status == 0
    assert [row["transaction_index"] for row in rows] == list(range(len(rows)))
    assert all(row["ledger_index"] == 11119607 and "error" not in row for row in rows)
    wanted = {"hash", "type", "result", "fee_payer", "fee", "mpt_changes", "object_changes"}
    assert wanted <= rows[0].keys()
    change = rows[0]["balance_changes"][0]
    assert {"account", "asset", "change", "balance"} <= change.keys()
    assert all(isinstance(change[name], str) for name in ("change", "balance"))


def test_nft_and_mpt_rows():
    folder = DATA / "transactions_modern"
    _, (row,) = decode(folder / "NFTokenAcceptOffer_Broker.json")
    (nft,) = row["nft_changes"]
    assert (nft["from"], nft["to"]) == (
        "rnp9DA6H2tLH7YFkgpjoVREB2yccYv56Sg",
        "rNYKGnHrjSnKXQGgACciyCLg4xRcwWZixN",
    )
    _, (row,) = decode(folder / "PaymentMPT.json")
    issuance = "000003C31D321B7DDA58324DC38CDF18934FAFFFCDF69D5F"
    account = "rw6UtpfBFaGht6SiC1HpDPNw6Yt25pKvnu"
    assert sorted(row["mpt_changes"], key=str) == sorted(
        (
            {"issuance": issuance, "account": account, "change": "100", "locked_change": "0"},
            {"issuance": issuance, "account": None, "outstanding_change": "100", "locked_change": "0"},
        ),
        key=str,
    )


def test_what_can_not_be_decoded_is_told_in_its_place(tmp_path):
    ledger = recorded()
    transactions = ledger["result"]["ledger"]["transactions"]
    del transactions[3]["metaData"]
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps(ledger, indent=1))
    garbage = tmp_path / "garbage.json"
    garbage.write_text('{"a": nonsense}')
    status, rows = decode(bad, garbage, tmp_path / "absent.json", LEDGER)
    errors = [row for row in rows if "error" in row]
    assert status == 1
    assert len(rows) == 2 * len(transactions) + 2
    assert [row["file"] for row in errors] == [str(bad), str(garbage), str(tmp_path / "absent.json")]
    assert errors[0]["hash"] == transactions[3]["hash"]
    assert errors[1]["hash"] is None


def test_json_lines_plain_and_gzipped(tmp_path):
    line = json.dumps(recorded()["result"])
    plain = tmp_path / "two.jsonl"
    plain.write_text(f"{line}\n\n{line}\n")
    packed = tmp_path / "two.jsonl.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert decode(plain) == decode(packed)
    assert len(decode(plain)[1]) == 2 * len(decode(LEDGER)[1])


@pytest.mark.parametrize("pack", [gzip.compress, bytes])
def test_truncated_lines_print_what_could_be_read(tmp_path, pack):
    line = json.dumps(recorded()["result"]).encode() + b"\n"
    whole = pack(line * 3)
    cut = tmp_path / "cut"
    cut.write_bytes(whole[: -len(whole) // 10])
    status, rows = decode(cut)
    count = len(decode(LEDGER)[1])
    assert status == 1
    assert len(rows) >= 2 * count + 1 if pack is bytes else len(rows) >= 1
    assert "error" in rows[-1] and not any("error" in row for row in rows[:-1])


@pytest.mark.parametrize("version", [1, 2])
def test_a_stream_is_put_together(version):
    path = DATA / "streams" / f"constructed_11119599-11119600_api{version}.jsonl.gz"
    status, rows = decode(path)
    assert status == 0
    assert [row["ledger_index"] for row in rows] == [11119599] * 19 + [11119600] * 13
    assert [row["transaction_index"] for row in rows] == [*range(19), *range(13)]
    headers = [decode_ledger(ledger)[0] for ledger in read_ledgers([path])]
    assert [header["ledger_index"] for header in headers] == [11119599, 11119600]
    assert headers[0]["close_time"] == (474575220 + 946684800) * 1000


def test_a_stream_that_lacks_a_transaction_is_no_ledger(tmp_path):
    path = DATA / "streams" / "constructed_11119599-11119600_api2.jsonl.gz"
    lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    short = tmp_path / "short.jsonl"
    short.write_bytes(b"".join(lines[:-1]))
    with pytest.raises(Truncated, match="has 13 transactions, the stream holds 12"):
        list(read_ledgers([short]))


def test_messages_that_hold_no_transaction_are_silent(tmp_path):
    messages = tmp_path / "messages.jsonl"
    silent = [
        {"type": "consensusPhase", "consensus": "open"},
        {"id": 1, "status": "success", "type": "response", "result": {}},
        {"id": 1, "command": "subscribe", "streams": ["ledger"]},
        {"type": "ledgerClosed", "ledger_index": 5, "ledger_hash": "A" * 64, "txn_count": 0},
    ]
    messages.write_text("\n".join(map(json.dumps, silent)))
    assert decode(messages) == (0, [])
    messages.write_text(json.dumps({"status": "error", "error": "noNetwork", "type": "response"}))
    status, rows = decode(messages)
    assert (status, rows[0]["error"]) == (1, "the node answered with an error: noNetwork")


def test_directories_sort_by_number(tmp_path):
    for name in ("10.json", "9.json", "x.txt", "100.json.gz"):
        (tmp_path / name).touch()
    assert [path.name for path in recorded_files(tmp_path)] == ["9.json", "10.json", "100.json.gz"]


def test_read_ledgers_names_the_file(tmp_path):
    single = tmp_path / "single.json"
    single.write_text('{"hash": "AB", "tx_json": {}, "meta": {}}')
    with pytest.raises(NotALedger, match=r"single\.json"):
        list(read_ledgers([single]))
    with pytest.raises(RecordedError, match="No such file"):
        list(read_ledgers([tmp_path / "absent"]))


def test_binary_and_json_print_the_same():
    _, binary = decode(DATA / "ledgers_binary" / "104552600.json.gz")
    _, plain = decode(DATA / "ledgers_modern_v2" / "104552600.json.gz")
    assert binary == plain

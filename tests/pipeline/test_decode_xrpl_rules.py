"""The rules of the effects on made-up metadata, each as small as it can be."""

import json
import zlib

import pytest

from pipeline.domain.amount import add, format_decimal, negate, parse_decimal, plain, subtract
from pipeline.domain.decode.xrpl import decode_ledger, decode_transaction
from pipeline.domain.decode.xrpl_address import decode_account, encode_account
from pipeline.domain.decode.xrpl_errors import (
    ErrorAnswer,
    Malformed,
    MissingMetadata,
    NotALedger,
    NotExpanded,
    NotValidated,
    RecordedError,
)

ALICE, BOB = "rf1BiGeXwwQoi8Z2ueFYTEXSwuJYfV2Jpn", "rPMaka1XggxGd6H35DVJDM9aPv4g1NfEtp"
ISSUER = "rPT1Sjq2YGrBMTttX4GZHjKu9dyfzbpAYe"
ISSUANCE = "00000001" + decode_account(ISSUER)


def node(action, kind, index="A" * 64, new=None, final=None, previous=None):
    body = {"LedgerEntryType": kind, "LedgerIndex": index}
    for name, fields in (("NewFields", new), ("FinalFields", final), ("PreviousFields", previous)):
        if fields is not None:
            body[name] = fields
    return {action: body}


def root(account, before, after):
    final = {"Account": account, "Balance": str(after)}
    return node("ModifiedNode", "AccountRoot", final=final, previous={"Balance": str(before)})


def decode(*nodes, fee=10, index=0, **tx):
    meta = {"TransactionIndex": index, "TransactionResult": "tesSUCCESS", "AffectedNodes": list(nodes)}
    fields = {"Account": ALICE, "TransactionType": "Payment", "Fee": str(fee), "SigningPubKey": "ED", **tx}
    return decode_transaction({"tx_json": fields, "meta": meta, "hash": "F" * 64})


def holder(account, after, before=None, locked=0, locked_before=None, previous=True):
    """A modified MPToken as rippled writes it: fields at 0 absent; `before` None = not in PreviousFields."""
    final = {"Account": account, "MPTokenIssuanceID": ISSUANCE, "Flags": 0}
    old = {}
    for name, value, was in (("MPTAmount", after, before), ("LockedAmount", locked, locked_before)):
        if value:
            final[name] = str(value)
        if was is not None:
            old[name] = str(was)
    return node("ModifiedNode", "MPToken", final=final, previous=old if previous else None)


def issuance(after, before=None, **fields):
    final = {"Issuer": ISSUER, "Sequence": 1, "OutstandingAmount": str(after), **fields}
    previous = {} if before is None else {"OutstandingAmount": str(before)}
    return node("ModifiedNode", "MPTokenIssuance", final=final, previous=previous)


def mpt(record):
    return {
        row["account"]: (row["change"], row["locked_change"], row["outstanding_change"], row["ambiguous"])
        for row in record["mpt_changes"]
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1520019986234183e-27", "0.000000000001520019986234183"),
        ("1000000000000000e-3", "1000000000000"),
        ("9999999999999999e80", "9999999999999999" + "0" * 80),
        ("-0", "0"),
        ("0.10", "0.1"),
        ("-12.500", "-12.5"),
        ("007", "7"),
        ("1E2", "100"),
    ],
)
def test_plain(text, expected):
    assert plain(text) == expected


@pytest.mark.parametrize("text", ["", "1_0", "0x1", "NaN", "1e99999", "٣", " 1", ".5", "1e401", "9" * 401])
def test_not_a_decimal(text):
    with pytest.raises(ValueError):
        parse_decimal(text)


def test_differences_are_exact():
    assert subtract("9999999999999999", "0.000000000000001") == "9999999999999998.999999999999999"
    assert subtract("1e80", "1e-96") == "9" * 80 + "." + "9" * 96
    assert add("0.1", "0.2") == "0.3"
    assert (negate("0"), negate("-1.5"), negate("2")) == ("0", "1.5", "-2")
    assert format_decimal(-5, -3) == "-0.005"


def test_addresses():
    assert encode_account("0" * 40) == "rrrrrrrrrrrrrrrrrrrrrhoLvTp"
    assert encode_account("0" * 39 + "1") == "rrrrrrrrrrrrrrrrrrrrBZbvji"
    assert encode_account(decode_account(ALICE)) == ALICE
    for wrong in ("", "r", ALICE[:-1] + "1", "0OIl", "r" * 60):
        with pytest.raises(ValueError):
            decode_account(wrong)


def test_trust_line_that_changes_sign():
    """ALICE is low: she owned 2.5 of BOB's USD; now BOB owns 1.5 of hers."""
    limits = {"LowLimit": {"issuer": ALICE}, "HighLimit": {"issuer": BOB}}
    line = node(
        "ModifiedNode",
        "RippleState",
        final={"Balance": {"currency": "USD", "value": "-1.5"}, **limits},
        previous={"Balance": {"currency": "USD", "value": "2.5"}},
    )
    rows = decode(line)["balance_changes"]
    assert rows == [
        {"account": ALICE, "asset": f"USD.{BOB}", "change": "-4", "previous": "2.5", "balance": "-1.5"},
        {"account": BOB, "asset": f"USD.{ALICE}", "change": "4", "previous": "-2.5", "balance": "1.5"},
    ]


def test_deleted_escrow_has_no_previous_fields():
    escrow = {"Account": ALICE, "Destination": BOB, "Amount": "500"}
    record = decode(root(BOB, 0, 500), root(ALICE, 100, 90), node("DeletedNode", "Escrow", final=escrow))
    (row,) = record["object_changes"]
    assert (row["held_asset"], row["held_before"], row["held_after"]) == ("XRP", "500", "0")
    assert record["unexplained"] == 0


def test_escrow_of_an_issued_currency_and_of_an_mpt():
    for amount, held in (
        ({"currency": "USD", "issuer": ISSUER, "value": "1.50"}, (f"USD.{ISSUER}", "0", "1.5")),
        ({"mpt_issuance_id": ISSUANCE, "value": "7"}, (None, "0", "0")),
    ):
        created = node("CreatedNode", "Escrow", new={"Account": ALICE, "Destination": BOB, "Amount": amount})
        (row,) = decode(root(ALICE, 100, 90), created)["object_changes"]
        assert (row["held_asset"], row["held_before"], row["held_after"]) == held
        assert row["amount"] == ("1.5" if "currency" in amount else "7")


def test_escrow_that_the_trust_line_holds():
    """Xahau: the line keeps the escrowed amount in its Balance and names it in LockedBalance."""
    amount = {"currency": "USD", "issuer": ISSUER, "value": "2"}
    escrow = node("CreatedNode", "Escrow", new={"Account": ALICE, "Destination": BOB, "Amount": amount})
    line = node("ModifiedNode", "RippleState", final={"LockedBalance": amount}, previous={})
    (row,) = decode(root(ALICE, 100, 90), escrow, line)["object_changes"]
    assert (row["held_asset"], row["held_after"], row["amount"]) == (None, "0", "2")


def test_channel_holds_amount_less_balance():
    """A claim of 30 closes the channel: 100 − 20 were held; 30 go to BOB, 50 back to ALICE."""
    final = {"Account": ALICE, "Destination": BOB, "Amount": "100", "Balance": "50"}
    closed = node("DeletedNode", "PayChannel", final=final, previous={"Balance": "20"})
    record = decode(root(ALICE, 100, 140), root(BOB, 0, 30), closed)
    (row,) = record["object_changes"]
    assert (row["held_before"], row["held_after"]) == ("80", "0")
    assert record["unexplained"] == 0


def test_fee_payers():
    assert decode(fee=12)["fee_payer"] == ALICE
    assert decode(fee=12, Delegate=BOB)["fee_payer"] == BOB
    assert decode(fee=12, Flags=0x40000000, SigningPubKey="")["fee"] == 0
    assert decode(fee=12, Flags="1073741824", SigningPubKey="")["fee"] == 0
    assert decode(fee=12, Flags=0x40000000)["fee"] == 12
    assert decode(fee=12, Flags=0x40000000, SigningPubKey="", Signers=[1])["fee"] == 12
    pseudo = decode(fee=0, Account="", TransactionType="SetFee", SigningPubKey="")
    assert (pseudo["fee"], pseudo["fee_payer"]) == (0, "rrrrrrrrrrrrrrrrrrrrrhoLvTp")


class TestUnexplained:
    """XRP that no known entry type holds."""

    def test_unknown_entry_gains(self):
        vault = node("CreatedNode", "StrongBox", new={"Owner": ALICE, "Stored": "400", "Serial": "7"})
        record = decode(root(ALICE, 1000, 590), vault)
        assert (record["unexplained"], record["unexplained_entry"]) == (400, "A" * 64)
        assert record["unexplained_type"] == "StrongBox"
        (row,) = record["object_changes"]
        assert (row["held_asset"], row["held_before"], row["held_after"]) == ("XRP", "0", "400")
        assert row["owner"] == ALICE

    def test_the_entry_that_changed_by_that_amount_is_chosen(self):
        other = node("ModifiedNode", "Pod", "1" * 64, final={"Amount": "5"}, previous={"Amount": "6"})
        box = node("DeletedNode", "StrongBox", "9" * 64, final={"Stored": "400"}, previous={"Stored": "300"})
        record = decode(root(ALICE, 1000, 1290), box, other)
        assert (record["unexplained"], record["unexplained_entry"]) == (-300, "9" * 64)

    def test_else_the_first_by_index(self):
        nodes = [node("CreatedNode", "Pod", index * 64, new={"Amount": "5"}) for index in "312"]
        record = decode(root(ALICE, 1000, 890), *nodes)
        assert (record["unexplained"], record["unexplained_entry"]) == (100, "1" * 64)

    def test_else_the_transaction(self):
        record = decode(root(ALICE, 1000, 890))
        assert (record["unexplained"], record["unexplained_entry"]) == (100, "F" * 64)
        assert record["unexplained_type"] is None


class TestMpt:
    """Fields missing from PreviousFields: unchanged, or 0 before."""

    def test_first_units_of_a_holder(self):
        record = decode(holder(ALICE, 100), issuance(100, 0))
        assert mpt(record) == {ALICE: ("100", "0", "0", False), None: ("0", "0", "100", False)}
        assert record["balance_changes"][-1]["asset"] == f"mpt:{ISSUANCE}"

    def test_only_flags_changed(self):
        assert decode(holder(ALICE, 100), issuance(100))["mpt_changes"] == []

    def test_between_holders_without_the_issuance(self):
        assert mpt(decode(holder(ALICE, 60, 100), holder(BOB, 40))) == {
            ALICE: ("-40", "0", "0", False),
            BOB: ("40", "0", "0", False),
        }

    def test_escrow_locks_and_the_issuance_locks_too(self):
        record = decode(holder(ALICE, 99, 100, locked=1), issuance(100, LockedAmount="1"))
        assert mpt(record) == {ALICE: ("-1", "1", "0", False), None: ("0", "1", "0", False)}

    def test_confidential_outstanding_counts(self):
        supply = issuance(100, ConfidentialOutstandingAmount="30")
        assert mpt(decode(holder(ALICE, 70, 100), supply))[ALICE] == ("-30", "0", "0", False)

    def test_locked_of_the_issuance_tells_two_readings_apart(self):
        """+5 may be the amount of BOB or the locked amount of ISSUER; the issuance locked 5 more."""
        supply = issuance(105, 100, LockedAmount="6")
        supply["ModifiedNode"]["PreviousFields"]["LockedAmount"] = "1"
        record = decode(holder(BOB, 5), holder(ISSUER, 3, locked=5), supply)
        assert mpt(record)[ISSUER] == ("0", "5", "0", False)

    def test_absent_previous_fields_mean_untouched(self):
        record = decode(holder(ALICE, 5, 10), holder(BOB, 5, previous=False), holder(ISSUER, 5))
        assert mpt(record) == {ALICE: ("-5", "0", "0", False), ISSUER: ("5", "0", "0", False)}

    def test_still_ambiguous_is_unchanged_and_marked(self):
        record = decode(holder(ALICE, 5, 10), holder(BOB, 5), holder(ISSUER, 5))
        assert mpt(record) == {
            ALICE: ("-5", "0", "0", False),
            BOB: ("0", "0", "0", True),
            ISSUER: ("0", "0", "0", True),
        }

    def test_many_open_fields_end_soon(self):
        record = decode(*[holder(ALICE, 5) for _ in range(40)], issuance(100, 95))
        assert all(row["ambiguous"] for row in record["mpt_changes"] if row["account"])


class TestNfts:
    """Owners before and after, over all pages."""

    @staticmethod
    def page(owner, tokens):
        return {"NFTokens": [{"NFToken": {"NFTokenID": token * 64, "URI": "AB"}} for token in tokens]}

    def index(self, owner, number):
        return decode_account(owner) + f"{number:024X}"

    def test_a_split_moves_nothing_but_the_new_one(self):
        nodes = [
            node("CreatedNode", "NFTokenPage", self.index(ALICE, 1), new=self.page(ALICE, "12")),
            node(
                "ModifiedNode",
                "NFTokenPage",
                self.index(ALICE, 2),
                final=self.page(ALICE, "345"),
                previous=self.page(ALICE, "1234"),
            ),
            node("ModifiedNode", "NFTokenPage", self.index(BOB, 1), final=self.page(BOB, "9"), previous={}),
        ]
        assert decode(*nodes)["nft_changes"] == [
            {"nft_id": "5" * 64, "from_owner": None, "to_owner": ALICE, "uri": "AB"}
        ]

    def test_sale_that_deletes_the_sellers_page_and_a_burn(self):
        nodes = [
            node("DeletedNode", "NFTokenPage", self.index(ALICE, 1), final=self.page(ALICE, "12")),
            node("CreatedNode", "NFTokenPage", self.index(BOB, 1), new=self.page(BOB, "1")),
        ]
        changes = {row["nft_id"][0]: row for row in decode(*nodes)["nft_changes"]}
        assert (changes["1"]["from_owner"], changes["1"]["to_owner"]) == (ALICE, BOB)
        assert (changes["2"]["from_owner"], changes["2"]["to_owner"]) == (ALICE, None)


def test_an_unreadable_node_is_told_and_the_rest_stands():
    broken = {"ModifiedNode": {"LedgerEntryType": "AccountRoot", "PreviousFields": {"Balance": "1"}}}
    record = decode(root(ALICE, 100, 90), broken, "nonsense")
    assert "AffectedNodes[1]" in record["error"] and "AffectedNodes[2]" in record["error"]
    assert [row["change"] for row in record["balance_changes"]] == ["-10"]


def test_raw_is_the_transaction_as_recorded():
    tx = {"Account": ALICE, "TransactionType": "Payment", "Fee": "10", "Sequence": 2**70}
    meta = {"TransactionIndex": 0, "TransactionResult": "tesSUCCESS", "AffectedNodes": []}
    record = decode_transaction({**tx, "meta": meta, "hash": "F" * 64})
    assert json.loads(zlib.decompress(record["raw"])) == {"tx_json": tx, "meta": meta, "hash": "F" * 64}
    assert record["error"].startswith("Sequence")


def test_memos():
    memos = [
        {"Memo": {"MemoType": b"text".hex(), "MemoData": "héllo".encode().hex().upper()}},
        {"Memo": {"MemoData": "FF00"}},
        "nonsense",
    ]
    assert decode(Memos=memos)["memos"] == [
        {"type": "text", "format": "", "data": "héllo"},
        {"type": "", "format": "", "data": "FF00"},
    ]


META = {"TransactionIndex": 0, "AffectedNodes": []}
TX = {"TransactionType": "Payment", "hash": "B" * 64, "metaData": META}


@pytest.mark.parametrize(
    ("recorded", "kind", "words"),
    [
        ([], NotALedger, "not a JSON object"),
        ({"id": 1}, NotALedger, "keys id"),
        ({"result": {"error": "lgrNotFound", "status": "error"}}, ErrorAnswer, "lgrNotFound"),
        ({"error": "notSynced", "status": "error"}, ErrorAnswer, "notSynced"),
        ({"ledger": {"ledger_index": 5, "transactions": []}, "validated": False}, NotValidated, "validated"),
        ({"ledger": {"closed": False, "transactions": []}}, NotValidated, "open"),
        ({"closed": {"ledger": {}}, "open": {"ledger": {}}}, NotValidated, "closed"),
        ({"ledger": {"ledger_index": 5, "transactions": ["AB"]}}, NotExpanded, "hashes"),
        ({"ledger": {"ledger_index": 5, "transaction_hash": "AB"}}, NotExpanded, "without"),
        ({"ledger": {"ledger_index": "x", "transactions": []}}, Malformed, "ledger_index"),
        (
            {"ledger": {"ledger_index": 5, "transactions": [{**TX, "metaData": None}]}},
            MissingMetadata,
            "BBBB",
        ),
        ({"ledger": {"ledger_index": 5, "transactions": [TX, TX]}}, Malformed, "same TransactionIndex"),
        ({"ledger": {"ledger_index": 5, "transactions": [{**TX, "metaData": {}}]}}, Malformed, "no Trans"),
        ({"ledger": {"ledger_data": "00", "transactions": []}}, Malformed, "118 bytes"),
    ],
)
def test_what_is_no_ledger(recorded, kind, words):
    with pytest.raises(RecordedError, match=words) as caught:
        decode_ledger(recorded)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)


def test_a_transaction_without_metadata_is_named():
    with pytest.raises(MissingMetadata) as caught:
        decode_transaction({"TransactionType": "Payment", "hash": "B" * 64})
    assert caught.value.transaction_hash == "B" * 64


def test_empty_ledger():
    header, records = decode_ledger({"ledger": {"ledger_index": "7", "transaction_hash": "0" * 64}})
    assert (header["ledger_index"], header["ledger_hash"], records) == (7, None, [])
    assert (header["close_time"], header["total_coins"]) == (0, None)

"""A state and the ledgers after it: books, exports and holdings are the node's own, whatever comes when.

The recorded chain from the state after ledger 67 to ledger 353, judged by the node's tables at 67, 341, 353.
"""

import asyncio
import random
from itertools import pairwise

import pytest

from pipeline.agents.books import BooksRole
from pipeline.agents.role import Message
from pipeline.domain.account import AccountCode, AccountRef
from pipeline.domain.balances import AccountBalance, balance_rows
from pipeline.domain.changes import asset_changes
from pipeline.domain.holdings import fold
from pipeline.domain.state_changes import state_asset_changes
from pipeline.ingest import state_pages
from pipeline.ingest.snapshot import take_snapshot
from pipeline.report import make_report
from schemas.codec import local_codec
from sinks import exports
from sinks.embedded_books import connect
from sinks.sink import HistoryMessage
from tests.support.demo import EXPORTS, expected_balances, expected_rows
from tests.support.history import history
from tests.support.recorded import recorded_blocks
from tests.support.states import headers, node_67
from tests.support.truth import read_truth
from topics.envelope import outgoing

LEDGERS, STATES, TRANSFERS, ASSETS = (
    "xrpl.ledgers.v1", "xrpl.states.v1", "books.transfers.v1", "assets.changes.v1",
)  # fmt: skip
CHAIN, NUMBER, NATIVE = "xrpl:test", 16384, "xrpl:test/XRP"
CODEC = local_codec()
EPOCHS = dict.fromkeys((LEDGERS, STATES, TRANSFERS, ASSETS), "e")
KEYS = {
    "balances": ("account", "asset"), "nfts": ("nft_id",), "mpts": ("issuance",), "escrows": ("escrow_id",),
    "channels": ("channel_id",),
}  # fmt: skip


def as_messages(topic, outgoings):
    return [
        Message(topic, 0, offset, 0, one.key, one.value, one.headers) for offset, one in enumerate(outgoings)
    ]


def ledger_messages(blocks):
    return as_messages(LEDGERS, [outgoing(CODEC, LEDGERS, CHAIN, block, partition=0) for block in blocks])


@pytest.fixture(scope="module")
def blocks():
    coins = int(headers()[67]["total_coins"])
    return [
        {**block, "run": 68, "run_coins": coins}
        for block in recorded_blocks(CHAIN)
        if block["ledger_index"] > 67
    ]


@pytest.fixture(scope="module")
def ledgers(blocks):
    return ledger_messages(blocks)


def state_messages(directory, **options):
    """The state after ledger 67 in 19 pages."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state_pages, "PAGE_ENTRIES", 16)
        snapshot = asyncio.run(take_snapshot(node_67().ask, 67, directory, pause_s=0))
        return as_messages(STATES, snapshot.messages(CODEC, CHAIN, NUMBER, partition=0, **options))


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    return state_messages(tmp_path_factory.mktemp("state"))


class Killed(BaseException):
    """The process ends here."""


class Mortal:
    """An engine whose process is killed after so many transfers, in the middle of a request."""

    def __init__(self, engine, transfers):
        self._engine, self._left = engine, transfers

    def __getattr__(self, name):
        return getattr(self._engine, name)

    def close(self):
        """It stays for the next process."""

    def create_transfers_packed(self, events):
        count = len(events) // 128
        if count > self._left:
            self._engine.create_transfers_packed(events[: 128 * self._left])
            raise Killed
        self._left -= count
        return self._engine.create_transfers_packed(events)


class Here:
    """The books role over one engine, and all that it published."""

    def __init__(self, engine):
        self.engine, self.published, self.stops = engine, [], {}
        self.begin()

    def begin(self, lives=1 << 60):
        """A new process."""
        mortal = Mortal(self.engine, lives)
        self.role = BooksRole(lambda: mortal, CODEC)
        asyncio.run(self.role.open(None, EPOCHS))

    def book(self, *messages):
        """Batches of what stands next to each other in one topic."""
        batch = []
        for message, following in pairwise((*messages, None)):
            batch.append(message)
            if following is None or following.topic != message.topic or len(batch) == 64:
                done = asyncio.run(self.role.process(message.topic, batch))
                self.published += done.outgoing
                self.stops |= done.stops
                batch = []
        return self

    def topics(self, name):
        return [one for one in self.published if one.topic == name]

    def accounts(self):
        """Every account that a transfer names, with its balance in the engine."""
        refs = {}
        for one in self.topics(TRANSFERS):
            record = CODEC.decode(one.value)[1]
            for row in record["transfers"]:
                for side in ("debit", "credit"):
                    names = (row[f"{side}_code"], row[f"{side}_owner"], row[f"{side}_subject"])
                    refs[AccountRef(record["asset"], *names)] = 0
        from tests.sinks.test_bookkeeper import units

        return [AccountBalance(*ref, held) for ref, held in units(self.engine, refs).items()]


@pytest.fixture
def here():
    with connect() as engine:
        yield Here(engine)


def prove(here, at=353):
    """The books are the node's at that ledger: each balance, no coin unseen."""
    accounts, tables = here.accounts(), read_truth(at)["tables"]
    shown = {(row["account"], row["asset"]): dict(row) for row in balance_rows(accounts)}
    assert shown == expected_balances(tables)
    native = {(a.code, a.owner): a.units for a in accounts if a.asset == NATIVE}
    assert native[AccountCode.OPENING, ""] == 0
    assert -native[AccountCode.ISSUER, ""] == int(headers()[67]["total_coins"])
    burnt = int(headers()[67]["total_coins"]) - int(tables["total_coins"])
    assert native.get((AccountCode.FEE_BURN, ""), 0) == burnt
    nfts = {
        a.subject: a.owner
        for a in accounts
        if "/nft:" in a.asset and a.code == AccountCode.HOLDER and a.units
    }
    assert nfts == {nft: row["owner"] for nft, row in tables["nfts"].items()}
    assert {one.key for one in here.topics("control.alerts.v1")} <= {b"capped"}  # the chain has one such
    assert not here.topics("quarantine.v1")


def test_a_state_alone_is_the_nodes_own(here, pages):
    prove(here.book(*pages), at=67)


def test_state_and_ledgers_are_the_nodes_own(here, pages, ledgers):
    prove(here.book(*pages, *ledgers[: 341 - 67]), at=341)
    prove(here.book(*ledgers[341 - 67 :]))


@pytest.mark.parametrize("seed", range(8))
def test_pages_come_in_any_order_among_the_ledgers_and_again(here, pages, ledgers, seed):
    made = random.Random(seed)
    some = [*pages, *made.choices(pages, k=12)]
    made.shuffle(some)
    line = list(ledgers)
    for page in some:
        line.insert(made.randrange(len(line) + 1) if made.random() < 0.8 else len(line), page)
    prove(here.book(*line))


def test_the_state_comes_last(here, pages, ledgers):
    prove(here.book(*ledgers, *reversed(pages)))


@pytest.mark.parametrize("seed", range(12))
def test_killed_in_the_middle_and_again(here, pages, ledgers, seed):
    """Each process dies within a request to the engine; the next begins both topics some messages back."""
    made = random.Random(seed)
    todo = {STATES: pages, LEDGERS: ledgers}
    acknowledged = dict.fromkeys(todo, 0)
    while any(acknowledged[topic] < len(todo[topic]) for topic in todo):
        here.begin(made.randrange(1, 900))
        at = {topic: max(0, done - made.randrange(4)) for topic, done in acknowledged.items()}
        try:
            while any(at[topic] < len(todo[topic]) for topic in todo):
                topic = made.choice([topic for topic in todo if at[topic] < len(todo[topic])])
                end = at[topic] + made.randrange(1, 6)
                here.book(*todo[topic][at[topic] : end])
                at[topic] = min(end, len(todo[topic]))
                acknowledged[topic] = max(acknowledged[topic], at[topic])
        except Killed:
            continue
    prove(here)


def test_a_fee_payer_whose_balance_ends_as_it_was_is_opened_right(here, pages, ledgers, blocks):
    """Killed right after a fee leg: the account is not opened yet, and its page comes before the rest."""
    whose = {
        row["account"] for block in blocks for tx in block["transactions"] for row in tx["balance_changes"]
    }
    quiet = sorted(set(read_truth(67)["tables"]["accounts"]) - whose)
    assert quiet
    payer = quiet[0]
    tx = next(tx for block in blocks for tx in block["transactions"])
    nothing = {"balance_changes": [], "nft_changes": [], "mpt_changes": [], "object_changes": []}
    payment = {"balance_changes": [{
        "account": "rOther", "asset": "XRP", "change": "-12", "previous": "12", "balance": "0",
    }]}  # fmt: skip
    made = {
        **tx,
        **nothing,
        **payment,
        "fee": 12,
        "fee_payer": payer,
        "transaction_index": 0,
        "unexplained": 0,
    }
    block = {**blocks[0], "transactions": [made]}
    here.begin(3)  # supply, one opening, the fee leg
    with pytest.raises(Killed):
        here.book(*ledger_messages([block]))
    here.begin()
    here.book(*pages, *ledger_messages([block]))
    held = {a.owner: a.units for a in here.accounts() if a.asset == NATIVE and a.code == AccountCode.HOLDER}
    assert held[payer] == int(read_truth(67)["tables"]["accounts"][payer]["balance"])


def test_openings_are_told_once(here, pages, ledgers):
    """However often pages come: each opening stands in one message, or in the same one again."""
    here.book(*pages[:9], *ledgers[:280], *pages, *ledgers[280:], *pages)
    told = {}
    for one in here.topics(TRANSFERS):
        record = CODEC.decode(one.value)[1]
        place = (record["asset"], record["block"], record["chunk"])
        for row in record["transfers"]:
            assert told.setdefault(row["transfer_id"], (place, row)) == (place, row)


def test_a_state_that_starts_another_run_is_refused(here, pages, ledgers):
    """The books began with ledger 100: the state after 67 is none of theirs."""
    later = [message for message in ledgers if message.offset >= 100 - 68]
    decoded = [CODEC.decode(message.value)[1] for message in later]
    coins = int(headers()[99]["total_coins"])
    here.book(*ledger_messages([{**block, "run": 100, "run_coins": coins} for block in decoded]))
    before = sorted(here.accounts())
    here.book(*pages)
    assert {one.topic for one in here.published[-2:]} == {"quarantine.v1", "control.alerts.v1"}
    assert len(here.topics("quarantine.v1")) == len(pages)
    item = CODEC.decode(here.topics("quarantine.v1")[0].value)[1]
    assert (item["reason"], item["source_topic"]) == ("other_run", STATES)
    assert "the books of xrpl:test began another way" in item["detail"]
    assert sorted(here.accounts()) == before


def test_ledgers_of_another_run_stop_after_a_state(here, pages, blocks):
    here.book(*pages)
    other = [{**block, "run": 70, "run_coins": 1} for block in blocks if block["ledger_index"] >= 70]
    here.book(*ledger_messages(other))
    assert "run 70 is not the one that the starting state in the books begins" in here.stops[0][1]


def test_a_page_that_cannot_be_read_leaves_coins_unseen(here, pages, ledgers):
    """Loud: the page is quarantined, and what it held stays on OPENING."""
    bad = pages[4].__class__(STATES, 0, 4, 0, b"k", pages[4].value[:-30], ())
    here.book(*pages[:4], bad, *pages[5:], *ledgers)
    assert len(here.topics("quarantine.v1")) == 1
    unseen = next(a.units for a in here.accounts() if a.asset == NATIVE and a.code == AccountCode.OPENING)
    assert unseen > 0


@pytest.fixture(scope="module")
def whole_chain():
    return list(recorded_blocks(CHAIN))


def test_after_a_gap_the_state_brings_every_account_to_the_truth(here, whole_chain, blocks, tmp_path):
    """Ledgers 1-30, a gap of 31-67, the state after 67, ledgers 68-353: untouched accounts as well."""
    before = [block for block in whole_chain if block["ledger_index"] <= 30]
    later = [
        {**block, "gap_from": 31, "gap_to": 67} if block["ledger_index"] == 68 else block for block in blocks
    ]
    messages = ledger_messages([*before, *later])
    states = state_messages(tmp_path, gap_from=31)
    here.book(*messages[:30], *states[:3])
    assert here.stops == {0: (0, "xrpl:test: the state of ledger 67 waits for ledger 68 in the books")}
    here.book(*messages[30:310], *states, *messages[310:], *states[:5])
    accounts, tables = here.accounts(), read_truth(353)["tables"]
    exist = {*tables["escrows"], *tables["mpt_issuances"]}
    things = {a: a.subject or a.asset.partition("mpt:")[2] for a in accounts}
    locked = {a for a in accounts if a.code == AccountCode.ESCROW and a.asset == NATIVE}
    gone = {a for a in accounts if a.units and (a in locked or "/mpt:" in a.asset) and things[a] not in exist}
    shown = balance_rows(a for a in accounts if a not in gone)
    assert {(row["account"], row["asset"]): dict(row) for row in shown} == expected_balances(tables)
    # what ceased to be in the gap: no page tells of it; of XRP the coins that are too many do
    assert len(gone & locked) == 1
    native = {(a.code, a.owner): a.units for a in accounts if a.asset == NATIVE}
    assert native[AccountCode.OPENING, ""] == -sum(a.units for a in gone & locked)


def write(sink, topic, messages):
    sink.open_partition("e", topic, 0)
    sink.write("e", [HistoryMessage(topic, 0, offset, 0, one.value) for offset, one in enumerate(messages)])
    sink.flush()


def exported(sink, what, at=None):
    question = exports.export(what, NUMBER, at)
    rows = list(question.shape(sink.query(question.sql, question.parameters)))
    found = {tuple(row[key] for key in KEYS[what]): row for row in rows}
    assert len(found) == len(rows)
    return found


@pytest.fixture(scope="module")
def stored(tmp_path_factory, pages, ledgers, blocks):
    """Books and history of the state and the ledgers: half of the pages come after ledgers, some twice."""
    changes = [(STATES, state_asset_changes(CODEC.decode(page.value)[1])) for page in pages]
    changes += [(LEDGERS, asset_changes(block)) for block in blocks]
    records = [record for _, some in changes for record in some]
    random.Random(1).shuffle(records)
    with connect() as engine, history(tmp_path_factory.mktemp("history")) as sink:
        here = Here(engine).book(*pages[:10], *ledgers[:280], *pages[5:], *ledgers[280:])
        write(sink, LEDGERS, ledgers)
        write(sink, STATES, [*pages[::-1], *pages])
        write(sink, TRANSFERS, here.topics(TRANSFERS))
        write(sink, ASSETS, [outgoing(CODEC, ASSETS, record["asset"], record) for record in records])
        yield sink, here, records


@pytest.mark.parametrize("at", [67, 341, 353, None])
@pytest.mark.parametrize("what", EXPORTS)
def test_exports_are_the_nodes_own_state(stored, what, at):
    assert exported(stored[0], what, at) == expected_rows(what, read_truth(at or 353)["tables"])


def test_balances_at_gives_untouched_accounts(stored):
    sink = stored[0]
    for at in (67, 353):
        rows = sink.query(
            "SELECT account, balance FROM balances_at(position = {at:Int64}) WHERE asset = 'XRP'", {"at": at}
        )
        accounts = read_truth(at)["tables"]["accounts"]
        assert {row["account"]: row["balance"] for row in rows if row["balance"] != "0"} == {
            name: account["balance"] for name, account in accounts.items() if account["balance"] != "0"
        }


def test_a_state_makes_no_transactions(stored):
    sink = stored[0]
    (row,) = sink.query(
        "SELECT (SELECT count() FROM xrpl_transactions WHERE ledger_index <= 67) AS transactions,"
        " (SELECT count() FROM gas_ledger WHERE ledger_index <= 67) AS gas,"
        " (SELECT countIf(change != '0') FROM balance_changes WHERE transaction_index < 0) AS changes,"
        " (SELECT count() FROM xrpl_ledgers WHERE ledger_index <= 67) AS ledgers,"
        " (SELECT sum(entries) FROM xrpl_states) AS entries, (SELECT count() FROM xrpl_states) AS pages"
    )
    assert {name: int(value) for name, value in row.items()} == {
        "transactions": 0, "gas": 0, "changes": 0, "ledgers": 0, "entries": 300, "pages": 19,
    }  # fmt: skip


def test_the_report_judges_the_state(stored):
    sink, here, _ = stored
    report = make_report(here.engine, sink, CHAIN, NUMBER)
    assert report["starting_state"] == {"ledger": 67, "entries": 300}
    assert report["xrp"]["unseen"] == 0
    assert report["invariants"] == {
        **dict.fromkeys(report["invariants"], True), "xrp_conserved_from_start": "not_applicable",
    }  # fmt: skip


def test_provenance_begins_with_the_state(stored):
    truth = read_truth(67)["tables"]["nfts"]
    nft = next(iter(truth))
    story = list(stored[0].query(f"SELECT * FROM provenance(asset = '{CHAIN}/nft:{nft}')"))
    assert (story[0]["action"], story[0]["to_owner"], story[0]["block"]) == (
        "opened",
        truth[nft]["owner"],
        67,
    )
    assert (story[0]["hash"], story[0]["transaction_index"]) == ("", -1)


@pytest.mark.parametrize("seed", range(5))
def test_holdings_are_the_last_change_whatever_comes_first(stored, seed):
    records = list(stored[2])
    random.Random(seed).shuffle(records)
    holdings = fold({}, [(record, 0, "e", offset) for offset, record in enumerate(records)])
    tables = read_truth(353)["tables"]
    held = {key.rpartition(":")[2]: h for key, h in holdings.items() if h["onchain_status"] == "active"}
    assert {key: h["owner"] for key, h in held.items() if h["kind"] == "nft"} == {
        nft: row["owner"] for nft, row in tables["nfts"].items()
    }
    assert {key: (h["owner"], h["amount"]) for key, h in held.items() if h["kind"] == "mpt"} == {
        issuance: (row["issuer"], row["outstanding"]) for issuance, row in tables["mpt_issuances"].items()
    }

"""A data directory to report on: the recorded XRPL chain, a recorded EVM block and the applications' scene, each
through its own books role, all in one history; the chains are in the register, the last ledgers are unverified."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.agents.books import BooksRole
from pipeline.agents.role import Message
from pipeline.domain.account import AccountCode, AccountRef, account_id
from pipeline.domain.changes import asset_changes
from pipeline.domain.evm_changes import evm_asset_changes
from pipeline.ingest.chains import ChainRegister
from pipeline.ingest.recorded_evm import EvmLine, read_evm_blocks
from pipeline.report import book_balances
from schemas.codec import Codec
from sinks.books import ACCOUNT_STRUCT
from sinks.embedded_books import connect
from sinks.sink import HistoryMessage
from tests.support.read_scene import case, play
from tests.support.read_world import EPOCH, World, world
from tests.support.recorded import recorded_blocks, verdicts_up_to

EVM_FILE = Path(__file__).parents[2] / "pipeline/recordings/evm-17173049.json.gz"
XRPL, EVM = "xrpl:test", "eip155:1"
VERIFIED_UP_TO = 300
LEDGERS, BLOCKS, ASSETS, VERDICTS = (
    "xrpl.ledgers.v1", "evm.blocks.v1", "assets.changes.v1", "chains.verdicts.v1",
)  # fmt: skip
MORE_GAS = [
    ("card-2", "alice", "XRP", "30", "0", "30", "INTERNAL_GAS_COVERAGE"),
    ("card-2", "alice", "XRP", "7", "5", "2", "INTERNAL_GAS_CHARGE"),
    (
        "art-1",
        "bob",
        "ETH",
        "1000000000000000000000000001",
        "1000000000000000000000000001",
        "0",
        "INTERNAL_GAS_CHARGE",
    ),
    ("card-1", "bob", "GOLD", "3", "1", "2", "INTERNAL_GAS_CHARGE"),  # nobody knows its decimals
    ("card-1", "bob", "XRP", "9", "1", "1", "INTERNAL_GAS_CHARGE"),  # refused: 1 + 1 is not 9
]


class ReportScene:
    """The filled directory; `fees` = (paid, burnt) by chain and owner, as the engines of the books have them."""

    def __init__(self, made: World, folder: Path) -> None:
        self.world, self.folder = made, folder
        self.fees: dict[tuple[str, str], int] = {}
        self.burnt: dict[str, int] = {}

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """A query of an analyst."""
        return self.world.rows(sql)

    def held(self, ref: AccountRef) -> int:
        """What the applications' books have on an account."""
        ((*row,),) = ACCOUNT_STRUCT.iter_unpack(
            self.world.books.store._books.lookup_accounts_packed(account_id(ref))
        )
        return int.from_bytes(row[4], "little") - int.from_bytes(row[2], "little")


def _gas() -> list[dict[str, Any]]:
    return [
        case(kind, asset, 40 + place, {
            "payer_user_id": user, "currency": currency, "gas_required": required, "gas_paid_by_user": by_user,
            "gas_paid_by_treasury": by_treasury,
            **({"treasury_tx_hash": "4" * 64} if kind.endswith("COVERAGE") else {}),
        }, app_id="mintlings")
        for place, (asset, user, currency, required, by_user, by_treasury, kind) in enumerate(MORE_GAS)
    ]  # fmt: skip


def _messages(codec: Codec, topic: str, records: Iterable[Any]) -> list[HistoryMessage]:
    return [
        HistoryMessage(topic, 0, offset, 0, codec.encode(topic, record))
        for offset, record in enumerate(records)
    ]


def _book(codec: Codec, messages: list[HistoryMessage], engine: Any) -> list[HistoryMessage]:
    """What the books role publishes of the blocks."""
    role = BooksRole(lambda: engine, codec)
    asyncio.run(role.open(None, {messages[0].topic: EPOCH, "xrpl.states.v1": EPOCH}))
    offsets: dict[str, int] = {}
    told = []
    for start in range(0, len(messages), 64):
        batch = [Message(m.topic, 0, m.offset, 0, b"", m.message, ()) for m in messages[start : start + 64]]
        done = asyncio.run(role.process(messages[0].topic, batch))
        assert not done.stops, done.stops
        for one in done.outgoing:
            offsets[one.topic] = offsets.get(one.topic, -1) + 1
            told.append(HistoryMessage(one.topic, one.partition or 0, offsets[one.topic], 0, one.value))
    return told


@contextmanager
def report_scene(folder: Path) -> Iterator[ReportScene]:
    """A directory of its own, with everything in it; its port answers."""
    with world(folder) as made:
        scene = ReportScene(made, folder)
        play(made)
        made.tell("assets", _gas())
        register = ChainRegister(folder / "chains")
        ledgers = list(recorded_blocks(XRPL))
        register.mark_latest(register.identify(ledgers, "test"))
        chain = register.evm_chain(EVM)
        line = EvmLine(chain, lambda record: made.codec.encode(BLOCKS, record))
        blocks = [record for one in line.blocks(read_evm_blocks([EVM_FILE])) for record, _ in one.chunks]
        for epoch_of, topic, records in (("x", LEDGERS, ledgers), ("v", BLOCKS, blocks)):
            with connect(sync=False) as engine:
                messages = _messages(made.codec, topic, records)
                made.put(messages + _book(made.codec, messages, engine), epoch_of)
                _note(scene, engine, records[0]["chain"], records[0]["chain_number"])
        changes = [record for block in ledgers for record in asset_changes(block)]
        changes += [record for block in blocks for record in evm_asset_changes(block)]
        verdicts = verdicts_up_to(VERIFIED_UP_TO, ledgers)
        made.put(_messages(made.codec, ASSETS, changes) + _messages(made.codec, VERDICTS, verdicts), "x")
        yield scene


def _note(scene: ReportScene, engine: Any, chain: str, number: int) -> None:
    """What the engine itself says of fees."""
    for one in book_balances(engine, scene.world.history, number):
        if one.code == AccountCode.GAS:
            scene.fees[chain, one.owner] = -one.units
        elif one.code == AccountCode.FEE_BURN:
            scene.burnt[chain] = scene.burnt.get(chain, 0) + one.units
        elif one.code == AccountCode.FEE_POOL:
            scene.burnt[f"{chain} pool"] = scene.burnt.get(f"{chain} pool", 0) + one.units

"""Drives a live stand-alone node: seeded scenes of transactions, signed and submitted by xrpl-py.

The driver keeps what it needs to know of the chain as any outsider could: it folds the AffectedNodes of every
ledger that it has closed (tests/support/replay.py) and draws what there is to finish, cash, burn or lock from
that. The same seed gives the same scenes; hashes and close times are the node's own. Scenes are in
tests/support/live_scenes.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from xrpl.asyncio.clients import AsyncWebsocketClient
from xrpl.asyncio.transaction import autofill, sign
from xrpl.constants import CryptoAlgorithm
from xrpl.models.requests import GenericRequest
from xrpl.models.transactions.transaction import Transaction
from xrpl.wallet import Wallet

from tests.support.replay import Json, State, replay
from tests.support.rippled import LiveNode
from tests.support.truth import state_tables

GENESIS_SEED: Final = "snoPBrXtMeMyMHUVTgbuqAfg1SUTb"
CAST: Final = ("issuer", "gateway", "ada", "bea", "cid", "dan", "eva", "fay")
XRP: Final = 1_000_000


class LiveChain:
    """One chain on one node, and the people on it."""

    def __init__(self, node: LiveNode, seed: int) -> None:
        self.node, self.random = node, random.Random(seed)
        self.genesis = Wallet.from_seed(GENESIS_SEED, algorithm=CryptoAlgorithm.SECP256K1)
        self.people = {name: Wallet.from_entropy(self.random.randbytes(16).hex()) for name in CAST}
        self.state: State = {}
        self.ledgers: list[Json] = []  # answers of the node, in order, from the first that it closed
        self.made_by: dict[str, int] = {}  # entry index → Sequence or TicketSequence that made it
        self.counts: Counter[tuple[str, str]] = Counter()  # (type, result) as the ledgers say
        self.refused: Counter[tuple[str, str]] = Counter()  # what never got into a ledger
        self.closed_at: dict[int, float] = {}
        self._client: AsyncWebsocketClient | None = None
        self._listening: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        """Also after the node was restarted."""
        await self.disconnect()
        self._client = client = AsyncWebsocketClient(self.node.url)
        await client.open()
        await client.request(GenericRequest(command="subscribe", streams=["ledger"]))
        self._listening = asyncio.create_task(self._listen(client))

    async def disconnect(self) -> None:
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
        if self._client is not None:
            with contextlib.suppress(Exception):
                await self._client.close()
        self._client = self._listening = None

    async def _listen(self, client: AsyncWebsocketClient) -> None:
        async for message in client:
            if message.get("type") == "ledgerClosed":
                self.closed_at.setdefault(message["ledger_index"], time.monotonic())

    async def ask(self, command: str, **fields: Any) -> Json:
        """A request's result over the WebSocket, errors too."""
        assert self._client is not None
        answer = await self._client.request(GenericRequest(command=command, api_version=2, **fields))
        result: Json = answer.result
        return result

    async def submit(self, who: str, kind: str, **fields: Any) -> str:
        """Sign and submit one transaction; the node's first word on it (tesSUCCESS, tec…, ter…)."""
        assert self._client is not None
        wallet = self.wallet(who)
        wanted = {"TransactionType": kind, "Account": wallet.address, **fields}
        filled = await autofill(Transaction.from_xrpl(wanted), self._client)
        signed = sign(filled, wallet)
        result = (await self.ask("submit", tx_blob=signed.blob())).get("engine_result", "none")
        if not result.startswith(("tes", "tec", "ter")):
            self.refused[kind, result] += 1
        return str(result)

    async def close(self, times: int = 1) -> int:
        """Close ledgers; the index of the last one."""
        for _ in range(times):
            header = await self.node.accept()
            self._learn(await self.ledger(header["ledger_index"]))
        return int(self.ledgers[-1]["ledger"]["ledger_index"])

    async def ledger(self, index: int) -> Json:
        """A ledger as the node gives it, with its transactions."""
        return await self.ask("ledger", ledger_index=index, transactions=True, expand=True)

    async def begin(self) -> None:
        """Take in the ledgers that a fresh node has closed by itself."""
        for index in range(1, int((await self.ask("ledger", ledger_index="validated"))["ledger_index"]) + 1):
            self._learn(await self.ledger(index))

    def _learn(self, answer: Json) -> None:
        assert answer.get("validated") is True, answer
        self.ledgers.append(answer)
        for _ in replay([answer], self.state):
            pass
        for entry in answer["ledger"].get("transactions", ()):
            tx, meta = entry["tx_json"], entry["meta"]
            self.counts[tx["TransactionType"], meta["TransactionResult"]] += 1
            for node in meta["AffectedNodes"]:
                if (made := node.get("CreatedNode")) is not None:
                    self.made_by[made["LedgerIndex"]] = tx.get("Sequence") or tx.get("TicketSequence", 0)

    # what there is on the chain, in an order that does not depend on hashes of the node's own making

    def wallet(self, who: str) -> Wallet:
        """By name or by address."""
        if who == "genesis" or who == self.genesis.address:
            return self.genesis
        return self.people.get(who) or next(w for w in self.people.values() if w.address == who)

    def address(self, name: str) -> str:
        return str(self.wallet(name).address)

    def is_ours(self, address: str) -> bool:
        return any(wallet.address == address for wallet in self.people.values())

    def entries(self, kind: str) -> list[tuple[str, Json]]:
        """(index, entry) of every ledger entry of a type."""
        return sorted((i, e) for i, e in self.state.items() if e["LedgerEntryType"] == kind)

    def any_entry(self, kind: str) -> tuple[str, Json] | None:
        found = self.entries(kind)
        return self.random.choice(found) if found else None

    def nfts(self) -> Iterator[tuple[str, str]]:
        """(owner's address, NFTokenID)."""
        for nft, (owner, _) in sorted(state_tables(self.state)["nfts"].items()):
            yield owner, nft

    def some(self, but: str = "") -> str:
        """Somebody who holds, not an issuer; not `but`, a name or an address."""
        return self.random.choice([name for name in CAST[2:] if but not in (name, self.address(name))])

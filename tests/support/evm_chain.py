"""A chain on anvil that knows how each of its blocks was made, so it can be unmade, brought back and copied.

Transactions are signed here and wait in a queue of our own until `mine` puts them into one block, in order, with
timestamp and base fee told. A block is thus a plan: the same plans on the same parent make the same hashes.
That gives A→B→A (`rollback`, other blocks, `rollback`, `play`), a second node with the same chain (`copy_to`)
and a node that starts again after a kill. Rolling back is a revert to the snapshot taken after each block, not
`anvil_rollback`: after that one, storage that was read while empty counts differently in the state root, so a block
with a failed transfer would come back with another hash.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import requests
import rlp
from eth_account import Account
from eth_account.signers.local import LocalAccount
from web3 import HTTPProvider, Web3
from web3.contract import Contract

from tests.support.anvil import GENESIS_TIMESTAMP, GWEI, Anvil
from tests.support.evm.compile import artifacts

Json = dict[str, Any]
MNEMONIC: Final = "test test test test test test test test test test test junk"  # anvil's own, known to all
SECONDS: Final = 12  # from block to block, unless told
GAS: Final = 600_000
DEPLOY_GAS: Final = 6_000_000
BLOB: Final = bytes(131_072)  # its commitment and proof are the point at infinity
INFINITY: Final = b"\xc0" + bytes(47)
BLOB_HASH: Final = b"\x01" + hashlib.sha256(INFINITY).digest()[1:]
KINDS: Final = ("legacy", "access_list", "dynamic", "blob")


@lru_cache(maxsize=1)
def keys() -> tuple[LocalAccount, ...]:
    """anvil's ten rich accounts."""
    Account.enable_unaudited_hdwallet_features()
    return tuple(Account.from_mnemonic(MNEMONIC, account_path=f"m/44'/60'/0'/0/{i}") for i in range(10))


@dataclass(frozen=True)
class Signed:
    """One transaction as it is sent. `raw`: 0x hex, blobs included; `sender`: index of `keys()`."""

    raw: str
    hash: str
    sender: int
    nonce: int


@dataclass(frozen=True)
class Block:
    """How a block was made, and what came out. `base_fee`: wei; `timestamp`: seconds since 1970."""

    number: int
    timestamp: int
    base_fee: int
    transactions: tuple[Signed, ...]
    hash: str
    parent_hash: str


class Chain:
    """What stands on one node since genesis. Nobody else may mine there."""

    def __init__(self, anvil: Anvil) -> None:
        self.anvil = anvil
        session = requests.Session()
        session.trust_env = False
        self.w3 = Web3(HTTPProvider(anvil.url, session=session))
        self.blocks: list[Block] = []  # the active branch; block n at n - 1
        self.genesis_hash = anvil.block(0)["hash"]
        self._snapshots = [anvil.snapshot()]  # after block n, at n
        self._queue: list[Signed] = []
        self._nonces: Counter[int] = Counter()

    @property
    def head(self) -> int:
        """Number of the newest block."""
        return len(self.blocks)

    @property
    def timestamp(self) -> int:
        """Of the newest block."""
        return self.blocks[-1].timestamp if self.blocks else GENESIS_TIMESTAMP

    def send(
        self, sender: int, to: str | None = None, data: str = "0x", value: int = 0, *,
        gas: int = GAS, kind: str = "dynamic", tip: int = GWEI, cap: int = 100 * GWEI,
    ) -> Signed:  # fmt: skip
        """Sign a transaction for the next block. `to` None: a creation. `tip`, `cap`: wei per gas."""
        known: Json = {
            "chainId": self.anvil.chain_id, "nonce": self._nonces[sender], "gas": gas, "value": value, "data": data,
            **({"to": to} if to else {}),
        }  # fmt: skip
        return self.resend(_signed(sender, json.dumps({**known, **_priced(kind, tip, cap)})))

    def resend(self, signed: Signed) -> Signed:
        """Queue a transaction as it was signed; its nonce must be its sender's next."""
        assert signed.nonce == self._nonces[signed.sender], f"nonce {signed.nonce} is not the next"
        self._nonces[signed.sender] += 1
        self._queue.append(signed)
        return signed

    def next_nonce(self, sender: int) -> int:
        """Nonce that its next transaction needs."""
        return self._nonces[sender]

    def deploy(self, name: str, *args: Any, sender: int = 0, gas: int = DEPLOY_GAS) -> Contract:
        """Queue the creation of a compiled contract; the contract that will stand there."""
        made = artifacts()[name]
        data = (
            self.w3.eth.contract(abi=made.abi, bytecode=made.bytecode).constructor(*args).data_in_transaction
        )
        address = created_address(keys()[sender].address, self._nonces[sender])
        self.send(sender, None, data, gas=gas)
        return self.at(name, address)

    def at(self, name: str, address: str) -> Contract:
        """A compiled contract's interface at an address."""
        return self.w3.eth.contract(address=Web3.to_checksum_address(address), abi=artifacts()[name].abi)

    def call(self, sender: int, contract: Contract, function: str, *args: Any, **how: Any) -> Signed:
        """Queue a call of a contract; `how` as of `send`."""
        return self.send(sender, contract.address, contract.encode_abi(function, args=list(args)), **how)

    def mine(self, timestamp: int | None = None, base_fee: int = GWEI) -> Block:
        """One block of all that is queued, in order. AssertionError if the node takes only a part."""
        queued, self._queue = tuple(self._queue), []
        timestamp = timestamp or self.timestamp + SECONDS
        for signed in queued:
            self.anvil.rpc("eth_sendRawTransaction", signed.raw)
        self.anvil.set_next_base_fee(base_fee)
        self.anvil.set_next_timestamp(timestamp)
        self.anvil.rpc("anvil_mine", "0x1")
        found = self.anvil.block()
        assert found is not None and found["transactions"] == [signed.hash for signed in queued], (
            "not as queued"
        )
        made = Block(self.head + 1, timestamp, base_fee, queued, found["hash"], found["parentHash"])
        assert int(found["number"], 16) == made.number, "somebody else mines on this node"
        self.blocks.append(made)
        self._snapshots.append(self.anvil.snapshot())
        return made

    def empty(self, blocks: int) -> None:
        """Mine blocks without transactions."""
        for _ in range(blocks):
            self.mine()

    def finalise(self, number: int | None = None) -> None:
        """Mine empty blocks until `number` (default: the head) is final."""
        wanted = self.head if number is None else number
        self.empty(max(0, wanted + 2 * self.anvil.slots_in_an_epoch - self.head))

    def rollback(self, depth: int) -> list[Block]:
        """The newest `depth` blocks are gone and so is the queue; the blocks lost, oldest first."""
        assert 0 < depth <= self.head, f"depth {depth} of {self.head} blocks"
        lost = self.blocks[-depth:]
        del self.blocks[-depth:]
        self.anvil.revert(self._snapshots[self.head])
        self._snapshots[self.head :] = [self.anvil.snapshot()]  # a revert spends the snapshot
        self._queue.clear()
        self._nonces = Counter(signed.sender for block in self.blocks for signed in block.transactions)
        return lost

    def play(self, plans: Iterable[Block]) -> list[Block]:
        """Make blocks as they were made before, on the same parent. AssertionError if a hash is another."""
        made = []
        for plan in plans:
            for signed in plan.transactions:
                self.resend(signed)
            made.append(self.mine(plan.timestamp, plan.base_fee))
            assert made[-1] == plan, f"block {plan.number} came back as {made[-1].hash}, was {plan.hash}"
        return made

    def copy_to(self, anvil: Anvil, last: int | None = None) -> Chain:
        """The same blocks (up to `last`) with the same hashes on another fresh node of the same settings."""
        copied = Chain(anvil)
        assert copied.genesis_hash == self.genesis_hash, "the nodes differ in genesis"
        copied.play(self.blocks[:last])
        return copied


def created_address(sender: str, nonce: int) -> str:
    """Address of the contract that a sender's transaction creates."""
    encoded = rlp.encode([bytes.fromhex(sender[2:]), nonce])
    return Web3.to_checksum_address(Web3.keccak(encoded)[12:])


def _priced(kind: str, tip: int, cap: int) -> Json:
    if kind == "legacy":
        return {"gasPrice": cap // 2}
    if kind == "access_list":
        return {"type": 1, "gasPrice": cap // 2, "accessList": []}
    dynamic = {"type": 2, "maxPriorityFeePerGas": tip, "maxFeePerGas": cap}
    if kind == "blob":
        return {
            **dynamic,
            "type": 3,
            "maxFeePerBlobGas": GWEI,
            "blobVersionedHashes": ["0x" + BLOB_HASH.hex()],
        }
    assert kind == "dynamic", f"kind {kind} is none of {KINDS}"
    return dynamic


@lru_cache(maxsize=1 << 12)
def _signed(sender: int, transaction: str) -> Signed:
    """Sign a transaction given as JSON. Kept, for tests deploy the same contracts again and again."""
    asked = json.loads(transaction)
    made = keys()[sender].sign_transaction(asked)
    raw = bytes(made.raw_transaction)
    if asked.get("type") == 3:  # the pool wants the blob itself beside the transaction
        raw = b"\x03" + rlp.encode([rlp.decode(raw[1:]), [BLOB], [INFINITY], [INFINITY]])
    return Signed("0x" + raw.hex(), "0x" + bytes(made.hash).hex(), sender, asked["nonce"])

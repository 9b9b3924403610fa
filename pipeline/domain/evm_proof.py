"""Is a block's answer whole and true? What an EVM node says, against what the chain's hashes commit to. Pure.

A header proves itself by its hash and its place by its parent's. Its logsBloom covers every log of the block:
what it cannot hold is not there (a miss proves absence), what it may hold must be settled by the receipts.
Receipts whose blooms make up the header's and whose gas adds up to its gasUsed leave out no log (level
`header`); the roots of both tries prove every bit of them and of the transactions (level `full`). What
receipts tell beyond that follows from the transactions and is computed again (derived_fields).

Contradiction is raised and nothing of the answer is used; what an answer does not tell, or what this chain
is excepted from by a setting, is a check that is not applicable, and lowers the verdict. Not proven by any
hash: l1Fee and blobGasPrice; totalDifficulty, size. Who sent a transaction is proven by its signature (senders).

Source: Ethereum Yellow Paper sections 4.3.1 and 4.4; EIP-658, 1559, 4844; execution-apis (eth_getLogs).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from eth_hash.auto import keccak
from eth_keys.datatypes import Signature
from eth_keys.exceptions import BadSignature
from eth_utils.exceptions import ValidationError

from pipeline.domain.evm_logs import (
    EVERY_LOG,
    LogFilter,
    bloom_bits,
    check_logs_by_bloom,
    compare_logs,
    holds_bits,
    must_equal,
    name_answer,
    name_block,
)
from pipeline.domain.evm_rlp import (
    DEPOSIT,
    Answer,
    answers,
    data,
    encode_receipt,
    encode_transaction,
    header_hash,
    kind_of,
    listed,
    quantity,
    required,
    rlp_encode,
    signing_hash,
    told,
)
from pipeline.domain.evm_trie import ordered_root
from pipeline.domain.proof_errors import Contradiction, Unprovable
from pipeline.domain.verdict import Level
from schemas.records import Check

BLOB_GAS: Final = 131_072
"""Gas of one blob (EIP-4844)."""


@dataclass(frozen=True, slots=True)
class Head:
    """The block that the next one must follow."""

    number: int
    hash: str


# The checks. Each raises Contradiction where an answer is wrong and Unprovable where it does not tell.


def judge_block(
    block: Answer,
    receipts: Sequence[Answer] | None,
    logs: Sequence[Answer] | None,
    level: Level,
    *,
    head: Head | None = None,
    log_filter: LogFilter = EVERY_LOG,
    exceptions: Collection[str] = (),
) -> list[Check]:
    """Every check of one block at this level, or what contradicts.

    `block`: `eth_getBlockBy…`, at level full with whole transactions. `receipts`: all of the block
    (`eth_getBlockReceipts`), None if they were not asked for. `logs`: what `eth_getLogs` answered for this
    block to `log_filter`, None if it was not asked. `head`: the block before, None at a run's start.
    `exceptions`: names of checks that this chain cannot stand.

    Raises Contradiction, whose `.reason` is the name of the check or, more exactly: order, malformed (also
    for want of a field that every node tells), transaction_hash, missing_log, invented_log, changed_log,
    duplicate_log.
    """
    answers([block], "the block")
    answers([] if receipts is None else receipts, "the receipts")
    answers([] if logs is None else logs, "the logs")
    wanted: dict[str, Callable[[], None]] = {
        "parent_hash": lambda: check_parent(head, block),
        "header_hash": lambda: check_header_hash(block),
    }
    if receipts is not None:
        wanted["positions"] = lambda: check_positions(block, receipts)
        wanted["log_index"] = lambda: check_log_index(receipts)
        wanted["logs_bloom"] = lambda: check_logs_bloom(block, receipts)
        wanted["gas_used"] = lambda: check_gas_used(block, receipts)
    if logs is not None and receipts is not None:
        wanted["logs"] = lambda: compare_logs(logs, receipts, log_filter)
    elif logs is not None:
        wanted["logs"] = lambda: check_logs_by_bloom(block, logs, log_filter)
    if level == "full":
        wanted["receipts_root"] = lambda: check_receipts_root(block, receipts)
        wanted["transactions_root"] = lambda: check_transactions_root(block)
        wanted["senders"] = lambda: check_senders(block)
        if receipts is not None:
            wanted["derived_fields"] = lambda: check_derived_fields(block, receipts)
    return [_judged(name, judge, exceptions) for name, judge in wanted.items()]


def _judged(name: str, judge: Callable[[], None], exceptions: Collection[str]) -> Check:
    if name in exceptions:
        return {"name": name, "outcome": "not_applicable", "detail": "the settings except this chain from it"}
    try:
        judge()
    except Unprovable as error:
        return {"name": name, "outcome": "not_applicable", "detail": error.reason}
    return {"name": name, "outcome": "holds", "detail": ""}


def check_parent(head: Head | None, block: Answer) -> None:
    """That the block follows the head. Contradiction("order" | "parent_hash"); the second may be a reorg."""
    if head is None:
        raise Unprovable("the first block of its run")
    number = quantity(required(block, "number"), "number")
    if number != head.number + 1:
        raise Contradiction("order", f"block {number} does not follow {head.number}")
    must_equal("parent_hash", f"block {number}: parentHash", required(block, "parentHash"), head.hash)


def check_header_hash(block: Answer) -> None:
    """That the header hashes to the stated hash. Contradiction("header_hash")."""
    must_equal("header_hash", f"{name_block(block)}: hash", required(block, "hash"), header_hash(block))


def check_positions(block: Answer, receipts: Sequence[Answer]) -> None:
    """That every transaction, receipt and log says this block, its transaction and its place in it.

    There is one receipt a transaction, in their order, and none is `removed`. Contradiction("positions").
    """
    transactions = listed(required(block, "transactions"), "transactions")
    if len(transactions) != len(receipts):
        raise Contradiction(
            "positions", f"{name_block(block)}: {len(transactions)} transactions, {len(receipts)} receipts"
        )
    here = {"blockHash": required(block, "hash"), "blockNumber": required(block, "number")}
    for index, (transaction, receipt) in enumerate(zip(transactions, receipts, strict=True)):
        place = {**here, "transactionIndex": hex(index), "transactionHash": transaction}
        if isinstance(transaction, Mapping):
            place["transactionHash"] = required(transaction, "hash")
            _stands_at({**transaction, "transactionHash": transaction["hash"]}, place)
            for name in ("from", "to"):
                if name in receipt and name in transaction:
                    must_equal(
                        "positions", f"{name_answer(receipt)}: {name}", receipt[name], transaction[name]
                    )
        _stands_at(receipt, place)
        for log in answers(required(receipt, "logs"), "logs"):
            _stands_at(log, place)


def _stands_at(answer: Answer, place: Mapping[str, Any]) -> None:
    for name, expected in place.items():
        found = required(answer, name)
        if found == expected:
            continue
        if name not in ("blockNumber", "transactionIndex"):
            must_equal("positions", f"{name} of {name_answer(answer)}", found, expected)
        elif quantity(found, name) != quantity(expected, name):
            raise Contradiction("positions", f"{name} of {name_answer(answer)} is {found}, not {expected}")
    if answer.get("removed"):
        raise Contradiction("positions", f"{name_answer(answer)} is marked as removed")


def check_log_index(receipts: Sequence[Answer]) -> None:
    """That the logs of a block are numbered 0, 1, 2 … through its receipts. Contradiction("log_index")."""
    expected = 0
    for receipt in receipts:
        for log in answers(required(receipt, "logs"), "logs"):
            found = quantity(required(log, "logIndex"), "logIndex")
            if found != expected:
                raise Contradiction(
                    "log_index", f"{name_answer(receipt)}: logIndex {found} where {expected} is due"
                )
            expected += 1


def check_logs_bloom(block: Answer, receipts: Sequence[Answer]) -> None:
    """That each receipt's bloom is that of its logs, and all together the header's.

    A receipt without a bloom is judged by its logs alone. Contradiction("logs_bloom").
    """
    held = int.from_bytes(data(required(block, "logsBloom"), "logsBloom", 256), "big")
    bits = 0
    for receipt in receipts:
        of_logs = bloom_bits(answers(required(receipt, "logs"), "logs"))
        bits |= of_logs
        stated = receipt.get("logsBloom")
        if stated is not None and int.from_bytes(data(stated, "logsBloom", 256), "big") != of_logs:
            raise Contradiction(
                "logs_bloom", f"{name_answer(receipt)}: its logsBloom is not that of its logs"
            )
    if bits != held:
        more = "fewer" if holds_bits(held, bits) else "other"
        raise Contradiction(
            "logs_bloom", f"{name_block(block)}: its receipts hold {more} logs than its logsBloom tells"
        )


def check_gas_used(block: Answer, receipts: Sequence[Answer]) -> None:
    """That cumulativeGasUsed rises by each gasUsed up to the header's gasUsed. Contradiction("gas_used")."""
    used = 0
    for receipt in receipts:
        used += quantity(required(receipt, "gasUsed"), "gasUsed")
        stated = quantity(required(receipt, "cumulativeGasUsed"), "cumulativeGasUsed")
        if stated != used:
            raise Contradiction(
                "gas_used", f"{name_answer(receipt)}: cumulativeGasUsed is {stated}, not {used}"
            )
    total = quantity(required(block, "gasUsed"), "gasUsed")
    if used != total:
        raise Contradiction("gas_used", f"{name_block(block)}: gasUsed is {total}, its receipts used {used}")


def check_receipts_root(block: Answer, receipts: Sequence[Answer] | None) -> None:
    """That the receipts are exactly those of the header's receiptsRoot. Contradiction("receipts_root")."""
    if receipts is None:
        raise Unprovable("the receipts were not read")
    root = ordered_root([encode_receipt(receipt) for receipt in receipts])
    must_equal("receipts_root", f"{name_block(block)}: receiptsRoot", required(block, "receiptsRoot"), root)


def check_transactions_root(block: Answer) -> None:
    """That the transactions have their hashes and are exactly those of the header's transactionsRoot.

    Contradiction("transaction_hash" | "transactions_root"); Unprovable where only their hashes were read.
    """
    encoded = []
    for transaction in listed(required(block, "transactions"), "transactions"):
        if not isinstance(transaction, Mapping):
            raise Unprovable("only the hashes of the transactions were read")
        encoded.append(encode_transaction(transaction))
        must_equal(
            "transaction_hash",
            f"hash of {name_answer(transaction)}",
            required(transaction, "hash"),
            keccak(encoded[-1]),
        )
    must_equal(
        "transactions_root", f"{name_block(block)}: transactionsRoot", required(block, "transactionsRoot"),
        ordered_root(encoded),
    )  # fmt: skip


def check_derived_fields(block: Answer, receipts: Sequence[Answer]) -> None:
    """That what receipts tell beyond their root follows from the transactions.

    effectiveGasPrice, contractAddress, and blobGasUsed of blob transactions, each where it is told.
    Contradiction("derived_fields"), Unprovable where only the hashes of the transactions were read.
    """
    base_fee = block.get("baseFeePerGas")
    base = None if base_fee is None else quantity(base_fee, "baseFeePerGas")
    transactions = listed(required(block, "transactions"), "transactions")
    for transaction, receipt in zip(transactions, receipts, strict=False):
        if not isinstance(transaction, Mapping):
            raise Unprovable("only the hashes of the transactions were read")
        kind = kind_of(transaction)
        due: dict[str, object] = {"type": kind, "effectiveGasPrice": effective_gas_price(transaction, base)}
        if kind != DEPOSIT:
            due["contractAddress"] = created_address(transaction)
        if kind == 3:
            due["blobGasUsed"] = BLOB_GAS * len(told(transaction, "blobVersionedHashes"))
        for name, value in due.items():
            stated = receipt.get(name)
            if isinstance(value, int) and stated is not None:
                stated = quantity(stated, name)
            if name in receipt and stated is not None and stated != value:
                must_equal("derived_fields", f"{name_answer(receipt)}: {name}", stated, value)


def effective_gas_price(transaction: Answer, base_fee: int | None) -> int:
    """Wei per gas that a transaction paid in a block of this base fee (None: before London); deposits 0.

    Raises Unprovable, Malformed.
    """
    if kind_of(transaction) == DEPOSIT:
        return 0
    if kind_of(transaction) < 2:
        return quantity(told(transaction, "gasPrice"), "gasPrice")
    most = quantity(told(transaction, "maxFeePerGas"), "maxFeePerGas")
    tip = quantity(told(transaction, "maxPriorityFeePerGas"), "maxPriorityFeePerGas")
    return min(most, (base_fee or 0) + tip)


def created_address(transaction: Answer) -> str | None:
    """Address of the contract that a transaction creates, in lower case; None if it creates none."""
    if transaction.get("to") not in (None, "", "0x"):
        return None
    nonce = quantity(told(transaction, "nonce"), "nonce")
    sender = data(told(transaction, "from"), "from", 20)
    made = keccak(rlp_encode([sender, nonce.to_bytes((nonce.bit_length() + 7) // 8, "big")]))
    return "0x" + made[12:].hex()


def check_senders(block: Answer) -> None:
    """That every transaction's `from` signed it. Contradiction("senders"); Unprovable where a signature is not told."""
    for transaction in listed(required(block, "transactions"), "transactions"):
        if not isinstance(transaction, Mapping):
            raise Unprovable("only the hashes of the transactions were read")
        check_sender(transaction)


def check_sender(transaction: Answer) -> None:
    """That `from` signed the transaction: the payer of its gas. Contradiction("senders"), Unprovable.

    A tenth of a millisecond each. A deposit is not signed; its `from` is in its hash.
    """
    if kind_of(transaction) == DEPOSIT:
        return
    v = quantity(told(transaction, "v" if transaction.get("yParity") is None else "yParity"), "v")
    r, s = (quantity(told(transaction, name), name) for name in ("r", "s"))
    try:
        signer = signed_by(v, r, s, signing_hash(transaction))
    except Contradiction as error:
        raise Contradiction(error.reason, f"{name_answer(transaction)}: {error}") from error
    must_equal("senders", f"{name_answer(transaction)}: from", told(transaction, "from"), signer)


def signed_by(v: int, r: int, s: int, digest: bytes) -> str:
    """Address, in lower case, whose signature of `digest` it is. Contradiction("senders") where it is nobody's."""
    parity = v if v < 2 else (v - 35) % 2 if v >= 35 else v - 27
    try:
        return str(Signature(vrs=(parity, r, s)).recover_public_key_from_msg_hash(digest).to_address())
    except (BadSignature, ValidationError) as error:
        raise Contradiction("senders", f"its signature is none: {error}") from error

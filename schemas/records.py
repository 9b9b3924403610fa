"""Typed records of the topics. GENERATED from schemas/**/*.avsc by `python -m schemas.generate`:
do not edit.

Times are integers in the unit that the comment names; keys stand in the order they are written.
"""

from typing import Literal, TypedDict

ASSETS_CHANGES_V1 = "assets.changes.v1"
BOOKS_ACCOUNTS_V1 = "books.accounts.v1"
BOOKS_TRANSFERS_V1 = "books.transfers.v1"
CHAINS_VERDICTS_V1 = "chains.verdicts.v1"
CONTROL_ALERTS_V1 = "control.alerts.v1"
EVM_BLOCKS_V1 = "evm.blocks.v1"
EVM_CONTRACTS_V1 = "evm.contracts.v1"
GAS_CHARGES_V1 = "gas.charges.v1"
QUARANTINE_V1 = "quarantine.v1"
XRPL_LEDGERS_V1 = "xrpl.ledgers.v1"
XRPL_STATES_V1 = "xrpl.states.v1"

AssetAction = Literal["minted", "transferred", "burnt", "issued", "changed", "destroyed", "opened"]

U128 = bytes  # 16 bytes

AccountStatus = Literal["active", "frozen", "closed"]

TransferStatus = Literal["posted", "pending", "voided", "refused"]

Outcome = Literal["verified", "unproven", "missing", "skipped"]

Level = Literal["header", "full"]

CheckOutcome = Literal["holds", "broken", "not_applicable"]

Vote = Literal["signed", "forged", "other", "absent"]

Severity = Literal["info", "warning", "critical"]

Finality = Literal["head", "final", "retracted"]

TokenStandard = Literal["erc20", "erc721", "erc1155", "weth"]

ContractSource = Literal["settings", "factory"]

ContractCoverage = Literal["complete", "opened", "partial", "unknown"]

ContractStatus = Literal["watched", "retracted", "dropped"]

Action = Literal["created", "modified", "deleted"]


class AssetChange(TypedDict):
    """One change."""

    # Place of the transaction in the block; -1 = the starting state after that block.
    transaction_index: int
    # Place of the change within the transaction.
    change_index: int
    # Transaction hash.
    hash: str
    # Transaction type; EVM: its number (EIP-2718).
    type: str
    # NFT: minted, transferred, burnt. MPT issuance: issued (created), changed (outstanding or locked amount),
    # destroyed. Either: opened (it stood there in the starting state).
    action: AssetAction
    # Owner before; null = did not exist.
    from_owner: str | None
    # Owner after; null = exists no more. The issuer, for an MPT issuance.
    to_owner: str | None
    # Units after: 1 for an NFT, OutstandingAmount for an MPT issuance.
    amount: str
    # Change of the amount.
    change: str
    # Units locked after (MPT).
    locked: str
    # URI, hex as on the ledger, where the change shows it.
    uri: str | None


class AssetChanges(TypedDict):
    """Every change of one asset's holding in one block or by one event, on- or off-chain. One message per
    (asset, block or event); where a chain may take blocks back, one per state of the block: a head adds to
    what is pending, final makes it fact, retracted undoes it."""

    # Asset key: <chain>/nft:<NFTokenID>, <chain>/mpt:<issuance id>, <chain>/erc721:<contract>/<token id>.
    asset: str
    # nft or mpt.
    kind: str
    # Chain the change happened on.
    chain: str
    # Number of the chain.
    chain_number: int
    # Ledger index or block number.
    block: int
    # Hash of the block; empty where the recording lacks it.
    block_hash: str
    # Chunk of the block that the changes stand in.
    chunk: int
    # head = in the chain, may still be dropped; final = stays (every ledger of XRPL); retracted = was head
    # and the chain dropped it.
    finality: str
    # How often this very block was published as head before; 0 where ledgers are final at once.
    incarnation: int
    # <incarnation>/<finality> of the block's message; empty where ledgers are final at once.
    publication: str
    # Time of the block.
    time: int
    # In the order they were applied.
    changes: list[AssetChange]


class BookAccount(TypedDict):
    """An account was opened, frozen, thawed or closed (S4's account mapping). The last record of an account
    says how it stands. On-chain accounts are here when somebody has frozen them: a status in the directory,
    never a refusal of a fact."""

    # Id of the account in TigerBeetle, 128 bits, big-endian.
    account_id: U128
    # Asset key of the account's book, e.g. offchain/SOVR.
    asset: str
    # Chain of the asset; offchain for S4's assets.
    chain: str
    # Number of the chain; 0 for off-chain.
    chain_number: int
    # Number of the book in TigerBeetle; 0 where this store has none. May differ between stores; compare by
    # asset.
    book: int
    # Account code.
    code: int
    # Name of the account code, e.g. USER.
    type: str
    # Who stands behind the account: a reference, never a person's name; empty for the book's own.
    owner: str
    # What the account is kept for, where an owner has one account per thing.
    subject: str
    # Label of the account for operators; no personal data.
    name: str
    # How it stands after this change.
    status: AccountStatus
    # Event that changed it: source:client:key, and #attempt after the first.
    event_id: str
    # Id of the change: 32 hex digits of event and account; the same change always has the same.
    change_id: str
    # Event time in milliseconds: the place of an off-chain change in history.
    position: int
    # Event time.
    time: int


class BookTransfer(TypedDict):
    """One transfer: one debit, one credit."""

    # Id of the transfer, 128 bits, big-endian.
    transfer_id: U128
    # Place of the transaction in the block; -1 for openings and adjustments of a run.
    transaction_index: int
    # Leg of the transaction.
    leg: int
    # Transaction hash.
    hash: str
    # Transfer code.
    code: int
    # What became of it. A pending one stands until another names it in pending_id; a refused one is not in
    # the books.
    status: TransferStatus
    # Why it was refused.
    reason: str | None
    # Account code of the debit side.
    debit_code: int
    # Owner of the debit side.
    debit_owner: str
    # What the debit account is kept for, where an owner has one account per thing: the ledger entry of an
    # escrow or channel, the NFTokenID.
    debit_subject: str
    # Account code of the credit side.
    credit_code: int
    # Owner of the credit side.
    credit_owner: str
    # What the credit account is kept for.
    credit_subject: str
    # Units of the book (decimal integer up to 2^128-1): drops, 10^-15 of an issued currency, MPT units, 1 for
    # an NFT, wei, the smallest unit of an EVM token.
    amount: str
    # The pending transfer that this one posts or voids: 32 hex digits, empty for none.
    pending_id: str
    # Off-chain event it comes from: source:client:key, and #attempt after the first; empty on chain.
    event_id: str
    # Off-chain flow it belongs to, e.g. deposit, claim, lock; empty on chain.
    flow: str
    # Place in the order of the store's decisions: TigerBeetle's timestamp (ns); 0 where it is not told.
    # Differs between stores.
    timestamp: int


class BookTransfers(TypedDict):
    """What one message of a chain did in one book (S4's transfer audit log): a block's transfers pending,
    posted or voided. One message per (book, block), where a chain may take blocks back per (book, block,
    publication); a large one comes in parts."""

    # Asset key of the book: offchain/<S4 asset>, <chain>/XRP, <chain>/<currency>.<issuer>,
    # <chain>/mpt:<issuance id>, <chain>/nft:<issuer>:<taxon>; of EVM chains <chain>/native (fees alone),
    # <chain>/erc20:<contract>, <chain>/erc721:<contract> (the collection), <chain>/erc1155:<contract>/<token
    # id>.
    asset: str
    # Number of the book in TigerBeetle (its ledger id). May differ between stores; compare by asset.
    book: int
    # Chain the transfers come from.
    chain: str
    # Number of the chain; 0 for off-chain.
    chain_number: int
    # First ledger of the run.
    run: int
    # Ledger index or block number; event time in milliseconds off chain.
    block: int
    # Hash of the block; empty where the recording lacks it; off chain the hash of the event's name.
    block_hash: str
    # Chunk of the block that the transfers stand in.
    chunk: int
    # Which message of the block it is, <incarnation>/<finality>: head = pending, final = posted, retracted =
    # voided; empty where blocks are final at once.
    publication: str
    # Empty; of what one record would make too large (900 KB), the second and later records: 1, 2, …, in the
    # order of the transfers.
    part: str
    # Time of the block.
    time: int
    # In the order they were posted.
    transfers: list[BookTransfer]


class Check(TypedDict):
    """One check."""

    # XRPL: parent_hash, header_hash, total_coins, transaction_root, validations, witnesses, ancestors; EVM:
    # parent_hash, header_hash, logs_bloom, gas_used, receipts_root, transactions_root, logs ...
    name: str
    # What came of it; not_applicable = what it needs is not told.
    outcome: CheckOutcome
    # Why, in one line; empty where it holds.
    detail: str


class ValidatorVote(TypedDict):
    """One trusted validator."""

    # Public key as the settings name it (base58).
    key: str
    # signed = a full validation of this hash whose signature holds; forged = a signature that does not hold;
    # other = it signed another hash for this index; absent = nothing came.
    vote: Vote


class Verdict(TypedDict):
    """What was checked of one block before it was published, and what came of it; or the blocks that no node
    has. The last message of a chain tells how far the chain is verified."""

    # Deterministic id: BLAKE2b of chain, blocks, hash, outcome and level; the same verdict told again has the
    # same id.
    id: str
    # Name of the chain: xrpl:<network>, eip155:<id>.
    chain: str
    # Number of the chain in the registry of chains.
    chain_number: int
    # First block of the run of consecutive blocks that this one belongs to.
    run: int
    # Ledger index or block number; of a gap the first missing one.
    block: int
    # The same as block; of a gap the last missing one, of blocks proven together by a later one the last of
    # them.
    last_block: int
    # Hash of the block; null for a gap, and where the recording lacks it.
    block_hash: str | None
    # Close time of the block (UTC; milliseconds since 1970); of a gap that of the last block before it.
    time: int
    # verified = every check that was asked for holds; unproven = published, but a check that was asked for
    # could not be made or the quorum was not reached; missing = no node has these blocks, they are asked for
    # again and again; skipped = a gap that somebody accepted.
    outcome: Outcome
    # What was asked for: header = hash chain, header hash, coins; full = also the root of the transactions,
    # recomputed from them.
    level: Level
    # Node or file that the block came from, without credentials.
    source: str
    # Each check and what came of it.
    checks: list[Check]
    # Trusted validators and what they said of this block; empty where none are named in the settings.
    validators: list[ValidatorVote]
    # Valid signatures that were asked for; 0 where no validators are named.
    quorum: int
    # Valid signatures of trusted validators for this block.
    signed: int
    # Why it is not verified, in one line; empty where it is.
    reason: str
    # Last block such that every block of the run up to it is verified; -1 = none.
    verified_up_to: int
    # Gaps accepted in this chain so far.
    gaps: int


class Alert(TypedDict):
    """A broken invariant or a fact that somebody must look at, with its evidence. The same finding always has
    the same id."""

    # Deterministic id of the finding: BLAKE2b of rule, chain and subject; re-processing raises no second one.
    id: str
    # Name of the rule, e.g. unknown_object, capped, chain_stopped, gap_accepted.
    rule: str
    # How bad it is.
    severity: Severity
    # Chain it concerns; empty for none.
    chain: str
    # Block where it was first seen; -1 for none.
    block: int
    # Transaction where it was first seen; -1 for none.
    transaction_index: int
    # What it is about: an account, an entry type, a transfer.
    subject: str
    # Time of that block or event.
    time: int
    # The facts, as JSON.
    evidence: str


class EvmCheck(TypedDict):
    """One check."""

    # What was checked, e.g. header_hash, logs_bloom, receipts_root.
    name: str
    # holds, or not_applicable: it could not be made.
    outcome: str
    # Why it could not be made.
    detail: str


class EvmArg(TypedDict):
    """One argument."""

    # Name; arg<i> where the declaration has none.
    name: str
    # ABI type.
    type: str
    # Integers in decimal, addresses and bytes in hex, true or false, text; arrays and tuples as JSON of
    # these.
    value: str
    # Whether value is only the keccak-256 hash of the value: indexed strings, bytes, arrays and tuples.
    hashed: bool


class EvmLog(TypedDict):
    """One log."""

    # Place among the logs of the block.
    log_index: int
    # Address that emitted it.
    contract: str
    # Topics, 0 to 4, each 0x and 64 hex digits.
    topics: list[str]
    # Data, 0x and hex digits.
    data: str
    # Name of the event; null = not decoded, kept as it came.
    event: str | None
    # Canonical signature of the event, e.g. Transfer(address,address,uint256).
    signature: str | None
    # Arguments in the order of the event's declaration; empty where it is not decoded.
    args: list[EvmArg]
    # Why a log whose event is known could not be decoded, or moved nothing although its event says so; what
    # was left out of a log that no message takes, with the hash of its data.
    error: str | None


class EvmTransfer(TypedDict):
    """Units of one asset from one account to another."""

    # Log that says so.
    log_index: int
    # Place within the log: 0, or its place in an ERC-1155 batch or an ERC-2309 range.
    batch_position: int
    # By which rule the log was read; weth = a wrap or unwrap of the native coin, which no Transfer tells.
    standard: TokenStandard
    # Contract of the token.
    contract: str
    # What moved, within the chain: erc20:<contract> (weth too), erc721:<contract>/<token id>,
    # erc1155:<contract>/<token id>.
    asset: str
    # Who moved it (ERC-1155).
    operator: str | None
    # From whom; 0x0 = minted.
    from_address: str
    # To whom; 0x0 = burnt.
    to_address: str
    # Token id in decimal; null for fungible tokens.
    token_id: str | None
    # Units in decimal, up to 2^256-1; 1 for an ERC-721 token.
    amount: str


class EvmBalanceChange(TypedDict):
    """Change of one balance."""

    # Whose balance.
    account: str
    # Within the chain: erc20:<contract>, erc721:<contract> (the collection, as balanceOf counts),
    # erc1155:<contract>/<token id>.
    asset: str
    # Change in decimal, never 0.
    change: str
    # What the account held after the last block before the contract's start block (balanceOf, pinned there),
    # where the contract is older than what is read of it; null: it is read from its creation, or the balance
    # is not known (partial).
    opening: str | None
    # Whether the contract is older than what is read of it and no node tells what the account held: its book
    # lacks that.
    partial: bool


class EvmTransaction(TypedDict):
    """One transaction, what it cost and what its logs say that it did."""

    # Place in the block.
    transaction_index: int
    # Transaction hash.
    hash: str
    # Transaction type (EIP-2718): 0 legacy, 1 access list, 2 dynamic fee, 3 blobs, 4 set code, 126 deposit of
    # an OP chain; null where the node tells none.
    type: int | None
    # 1 = success, 0 = failed (its fee is paid, it has no logs); null before Byzantium.
    status: int | None
    # Sender: 0x and 40 hex digits in lower case, as all addresses here.
    from_address: str | None
    # Receiver; null where a contract was created.
    to_address: str | None
    # Contract that was created.
    contract_address: str | None
    # Nonce of the sender.
    nonce: int | None
    # Native coin sent along, in wei.
    value: str | None
    # First four bytes of the input: which function was called.
    selector: str | None
    # Gas used.
    gas_used: int | None
    # Price per gas that was paid, in wei; null = unknown.
    effective_gas_price: str | None
    # Blob gas used; null where the transaction has no blobs.
    blob_gas_used: int | None
    # Price per blob gas, in wei.
    blob_gas_price: str | None
    # blob_gas_used × blob_gas_price in wei; null where the transaction has no blobs, or unknown (then fee is
    # null too).
    blob_fee: str | None
    # Fee for the data on L1 (OP chains), in wei; null where the receipt tells none, 0 for deposits.
    l1_fee: str | None
    # All that was paid, in wei: gas_used × effective_gas_price + blob_fee + l1_fee; 0 for deposits; null =
    # unknown.
    fee: str | None
    # Part of the fee that was burnt, in wei: base fee × gas_used + blob_fee where the chain burns; null =
    # unknown.
    burnt: str | None
    # (effective_gas_price − base fee) × gas_used in wei: what the block's fee recipient got; null = unknown.
    tip: str | None
    # Who paid the fee: the sender; null where the recording does not tell.
    fee_payer: str | None
    # Whether the fee payer is a treasury of the settings: S0's gas_paid_by_treasury.
    treasury_paid: bool
    # Number of this part, from 0. All parts tell the same transaction: what it cost counts once, with part 0;
    # logs, transfers and balance changes stand in one part each.
    part: int
    # How many parts the transaction comes in: 1, but where it would not fit one message.
    parts: int
    # Transfers of the transaction that stand in the parts before: the place of this part's first one among
    # all.
    first_transfer: int
    # All logs of the transaction (or of this part) by log_index, also those not decoded.
    logs: list[EvmLog]
    # What the logs moved, in their order. Of a transaction in parts a log may stand in the part before.
    transfers: list[EvmTransfer]
    # The transfers summed up: one row per (account, asset) whose balance changed. The address 0x0 has no
    # balance. Of a transaction in parts: the change by all parts, in the first part that touches the balance.
    balance_changes: list[EvmBalanceChange]
    # Why a part of the transaction could not be decoded, or was left out because no message takes it.
    error: str | None
    # {transaction, receipt} as recorded, the receipt without logs and bloom, which stand above: JSON, zlib-
    # compressed. Only in part 0, else empty.
    raw: bytes


class EvmBlock(TypedDict):
    """One EVM block (or one chunk of it) as it stands now: header, and its transactions of interest in their
    order, each with its logs decoded and what they moved. The same block comes again when it becomes final
    and when the chain drops it: always whole."""

    # Name of the chain: eip155:<chain id>.
    chain: str
    # Number of the chain in the registry of chains; part of every transfer id.
    chain_number: int
    # Number of the first block of the run of consecutive blocks that this one belongs to. A new run begins at
    # the start and after an accepted gap.
    run: int
    # Number of the block.
    block_number: int
    # Hash of the block: 0x and 64 hex digits in lower case, as all hashes here.
    block_hash: str
    # Number of this chunk, from 0. A block that would pass 900 KB is split between its transactions; a
    # transaction that alone would pass it comes in parts, each in a chunk of its own.
    chunk: int
    # How many chunks the message of the block has.
    chunks: int
    # Which of the messages of this block it is, <incarnation>/<finality>: with chain, number, hash and chunk
    # it names the message for ever.
    publication: str
    # head = in the chain, may still be dropped; final = stays; retracted = was head and the chain dropped it:
    # what it did is undone.
    finality: Finality
    # How often this very block (by hash) was published as head before: a reorganisation A, B, A brings the
    # same hash back.
    incarnation: int
    # Whether this block was published as head in this incarnation before this message: then final posts and
    # retracted voids what is pending; a final block without it goes straight into the books.
    was_head: bool
    # Time of the block (UTC; milliseconds since 1970). 1970-01-01 where the recording does not tell it.
    time: int
    # Hash of the block before.
    parent_hash: str
    # First missing block before this one, where a gap was accepted; only on the first block after the gap.
    gap_from: int | None
    # Last missing block before this one, where a gap was accepted.
    gap_to: int | None
    # Whether anything in the block is watched; else the message is the header only.
    watched: bool
    # Transactions in the whole block, watched or not. Not proven by the header where a block was read without
    # its transactions (level header, nothing in it watched).
    transaction_count: int
    # Transactions of interest of the whole block, all chunks, one in parts once.
    watched_count: int
    # Logs of the transactions of interest, all chunks.
    log_count: int
    # Gas used by the whole block.
    gas_used: int
    # Gas limit of the block; 0 where the recording does not tell it.
    gas_limit: int
    # Base fee per gas in wei (baseFeePerGas); null before EIP-1559.
    base_fee: str | None
    # Blob gas used by the whole block; null before EIP-4844.
    blob_gas_used: int | None
    # Excess blob gas, which the blob price follows from; null before EIP-4844.
    excess_blob_gas: int | None
    # Who receives the tips (miner).
    fee_recipient: str | None
    # Root of the state after the block.
    state_root: str | None
    # Root of the block's transactions.
    transactions_root: str | None
    # Root of the block's receipts.
    receipts_root: str | None
    # Version of the decoder that made the effects.
    decoder_version: int
    # Highest block number that was told of this chain up to this message, by whichever branch: whoever reads
    # backwards from the end knows from it when nothing above the last final block can come any more. -1 = not
    # told.
    highest: int
    # Level at which the block was checked before it was published: header or full.
    level: str
    # What was checked of the block; what contradicts itself is never published.
    checks: list[EvmCheck]
    # The header as recorded, without transactions and withdrawals: JSON, zlib-compressed. Only in chunk 0,
    # else empty.
    raw_header: bytes
    # Transactions of interest of this chunk by transaction_index: those that emitted a watched log, and those
    # from or to a watched address. A part stands alone in its chunk.
    transactions: list[EvmTransaction]


class EvmContract(TypedDict):
    """One contract whose books are kept, as it stands: named in the settings, or made by a factory that they
    name. Told before the first block that it is read from. The last message of a contract decides; the set of
    all is what an ingest that starts again watches."""

    # Key: <chain>/<address>.
    contract: str
    # Name of the chain: eip155:<chain id>.
    chain: str
    # Number of the chain in the registry of chains.
    chain_number: int
    # Address of the contract: 0x and 40 hex digits in lower case; of a proxy its own.
    address: str
    # Built-in kind that its logs are read by, e.g. erc20; null: by an ABI of the settings alone.
    kind: str | None
    # settings = named there; factory = made by a factory that is named there.
    source: ContractSource
    # Address of the factory that made it; null for one of the settings.
    factory: str | None
    # Signature of the factory's event that told it; null for one of the settings.
    event: str | None
    # First block whose logs of it are read: of a made contract the block that made it.
    start_block: int
    # How much of its life the books know: complete = all, from its creation; opened = what accounts held
    # before start_block is asked of the node (balanceOf); partial = it is older than start_block and no node
    # tells what accounts held; unknown = not asked yet.
    coverage: ContractCoverage
    # Whether its balances follow from its logs as far as was seen; false: balanceOf changed in some block by
    # something else than the block's logs say (it rebases, or takes a fee that it does not tell), so that its
    # books are not its balances.
    reliable: bool
    # Block that made it, where a factory did.
    created_block: int | None
    # Hash of that block.
    created_hash: str | None
    # Time of the block that made it (UTC; milliseconds since 1970); 1970-01-01 for one of the settings.
    time: int
    # watched = its logs are read; retracted = a reorganisation dropped the block that made it; dropped = the
    # settings no longer name it (put back later it is partial: what happened meanwhile is not told).
    status: ContractStatus
    # Rises with every message of this contract: a block that made it may be dropped and come back.
    sequence: int


class GasCharge(TypedDict):
    """The fee of one transaction."""

    # Place of the transaction in the block.
    transaction_index: int
    # Transaction hash.
    hash: str
    # Transaction type.
    type: str
    # Transaction result: a failed transaction pays too.
    result: str
    # Who sent the transaction; differs from the owner where a delegate paid.
    account: str
    # Fee in the native coin's smallest unit (drops, wei).
    fee: str
    # Part of the fee that was burnt; null = unknown.
    burnt: str | None


class GasCharges(TypedDict):
    """What one owner paid in fees in one block. One message per (owner, block); where a chain may take blocks
    back, one per state of the block: charges of a retracted one were not paid after all."""

    # Who paid: an address or a user id.
    owner: str
    # Chain the fee was paid on.
    chain: str
    # Number of the chain.
    chain_number: int
    # Ledger index or block number.
    block: int
    # Hash of the block; empty where the recording lacks it.
    block_hash: str
    # Chunk of the block that the charges stand in.
    chunk: int
    # head = in the chain, may still be dropped; final = stays (every ledger of XRPL); retracted = was head
    # and the chain dropped it.
    finality: str
    # How often this very block was published as head before; 0 where ledgers are final at once.
    incarnation: int
    # <incarnation>/<finality> of the block's message; empty where ledgers are final at once.
    publication: str
    # Time of the block.
    time: int
    # In the order they were applied.
    charges: list[GasCharge]


class Header(TypedDict):
    """One header."""

    # Name of the header.
    name: str
    # Its bytes.
    value: bytes


class Quarantined(TypedDict):
    """A message or a recorded item that could not be processed, whole, with where it came from and why. The
    same facts stand in the message's __connect.errors.* headers."""

    # Deterministic id of the item: BLAKE2b of role, source and place.
    id: str
    # Who could not process it: ingest, books, assets, history.
    role: str
    # Topic it came from; the file or node for items from an ingest.
    source_topic: str
    # Partition it came from; -1 for items from an ingest.
    source_partition: int
    # Offset it had; line or ledger index for items from an ingest.
    source_offset: int
    # Epoch of the topic: offsets mean something only within one.
    epoch: str
    # Timestamp of the original message.
    time: int
    # Kind of fault: unknown_schema, undecodable, bad_magic, refused_by_sink ...
    reason: str
    # What was wrong, in one line.
    detail: str
    # Original key.
    key: bytes | None
    # Original value, every byte of it.
    value: bytes
    # Original headers.
    headers: list[Header]


class Memo(TypedDict):
    """One memo."""

    # MemoType.
    type: str
    # MemoFormat.
    format: str
    # MemoData.
    data: str


class BalanceChange(TypedDict):
    """A balance before and after."""

    # Whose balance.
    account: str
    # XRP (any network's native coin, in drops, fee included), <currency>.<issuer> with the counterparty as
    # issuer, or mpt:<issuance id>.
    asset: str
    # Exact decimal: balance - previous.
    change: str
    # Exact decimal before; 0 where it did not exist.
    previous: str
    # Exact decimal after; 0 where it was deleted.
    balance: str


class NftChange(TypedDict):
    """A change of owner of one NFT."""

    # NFTokenID, 64 hex digits.
    nft_id: str
    # Owner before; null = minted.
    from_owner: str | None
    # Owner after; null = burnt.
    to_owner: str | None
    # URI, hex as on the ledger, where the page shows it.
    uri: str | None


class MptChange(TypedDict):
    """A change of one MPToken or MPTokenIssuance."""

    # MPT issuance id, 48 hex digits.
    issuance: str
    # Holder; null for the issuance itself.
    account: str | None
    # Issuer, from the issuance id.
    issuer: str
    # What happened to the ledger entry.
    action: Action
    # Change of MPTAmount (holder); 0 for an issuance.
    change: str
    # Change of LockedAmount.
    locked_change: str
    # Change of OutstandingAmount (issuance); 0 for a holder.
    outstanding_change: str
    # MPTAmount after (holder); 0 for an issuance.
    amount: str
    # LockedAmount after.
    locked: str
    # OutstandingAmount after (issuance); 0 for a holder.
    outstanding: str
    # True where the metadata leaves open whether a missing previous value was 0 or unchanged, and
    # conservation could not decide: taken as unchanged.
    ambiguous: bool


class ObjectChange(TypedDict):
    """A change of one ledger entry."""

    # LedgerEntryType.
    entry_type: str
    # LedgerIndex, 64 hex digits.
    entry_id: str
    # What happened to the entry.
    action: Action
    # Who owns the entry.
    owner: str | None
    # Who is to receive.
    destination: str | None
    # Asset of `amount`.
    asset: str | None
    # What the entry says it has after (before, if deleted): Escrow and PayChannel Amount, Offer TakerGets,
    # Check SendMax, NFTokenOffer Amount.
    amount: str | None
    # PayChannel: paid out so far.
    balance: str | None
    # Asset of `counter_amount` (Offer TakerPays).
    counter_asset: str | None
    # What is asked in return.
    counter_amount: str | None
    # What the entry is about: the NFTokenID of an NFTokenOffer.
    reference: str | None
    # Asset that the entry itself holds (Escrow, PayChannel, unknown entries that hold the native coin), else
    # null.
    held_asset: str | None
    # What the entry itself held before, exact decimal; 0 where it holds nothing.
    held_before: str
    # What the entry itself holds after.
    held_after: str


class XrplTransaction(TypedDict):
    """One transaction with what it really did."""

    # Place in the order of application (meta.TransactionIndex).
    transaction_index: int
    # Transaction hash, 64 hex digits.
    hash: str
    # TransactionType as the ledger names it; types not known here pass through.
    type: str
    # TransactionResult: tesSUCCESS or a tec code.
    result: str
    # Account that sent the transaction.
    account: str
    # Account that paid the fee: the Delegate where there is one.
    fee_payer: str
    # Fee burnt, in drops; 0 for pseudo-transactions and inner batch transactions.
    fee: int
    # Sequence of the account; 0 where a ticket was used.
    sequence: int
    # Destination named by the transaction.
    destination: str | None
    # Memos, decoded to text where they are UTF-8, else hex.
    memos: list[Memo]
    # One row per (account, asset) whose balance changed, seen from the account.
    balance_changes: list[BalanceChange]
    # NFTs that were minted, moved or burnt.
    nft_changes: list[NftChange]
    # Changes of MPT holders (account set) and of issuances (account null).
    mpt_changes: list[MptChange]
    # Created, modified and deleted ledger entries that hold or promise value or record a right: Escrow,
    # PayChannel, Offer, NFTokenOffer, Check, AMM, Vault, Loan ..., types not known here too.
    object_changes: list[ObjectChange]
    # Drops that no known ledger-entry type explains: -(fee) - sum of the native changes of accounts, escrows
    # and channels. Booked to UNKNOWN_OBJECT; 0 as a rule.
    unexplained: int
    # LedgerIndex of the entry that `unexplained` is put to, the transaction hash if there is none.
    unexplained_entry: str | None
    # LedgerEntryType of that entry.
    unexplained_type: str | None
    # Why the transaction could not be decoded; its effects are then what of AffectedNodes could be read.
    error: str | None
    # The transaction and its metadata as recorded: JSON, zlib-compressed.
    raw: bytes


class XrplLedger(TypedDict):
    """One validated XRP Ledger ledger (or one chunk of it): header, and its transactions in the order they
    were applied, each with its decoded effects and the original transaction."""

    # Name of the chain: xrpl:<network>.
    chain: str
    # Number of the chain in the registry of chains; part of every transfer id.
    chain_number: int
    # Index of the first ledger of the run of consecutive ledgers that this one belongs to. A new run begins
    # at the start and after an accepted gap; opening balances are posted once per run.
    run: int
    # Index (sequence number) of the ledger.
    ledger_index: int
    # Number of this chunk, from 0. A ledger that would pass 900 KB is split by transactions.
    chunk: int
    # How many chunks the ledger has.
    chunks: int
    # Close time of the ledger (UTC; milliseconds since 1970). 1970-01-01 where the recording does not tell
    # it.
    close_time: int
    # Hash of the ledger header, 64 hex digits; null where the recording lacks the header.
    ledger_hash: str | None
    # Hash of the ledger before, 64 hex digits.
    parent_hash: str | None
    # Root of the transaction tree, 64 hex digits.
    transaction_hash: str | None
    # Root of the state tree, 64 hex digits.
    account_hash: str | None
    # Native coins in existence after this ledger, in drops.
    total_coins: int | None
    # Native coins in existence before the first ledger of the run, in drops.
    run_coins: int | None
    # Resolution of the close time in seconds.
    close_time_resolution: int | None
    # Flags of the close.
    close_flags: int | None
    # Close time of the parent (UTC; milliseconds since 1970).
    parent_close_time: int | None
    # First missing ledger before this one, where a gap was accepted; only on the first ledger after the gap.
    gap_from: int | None
    # Last missing ledger before this one, where a gap was accepted.
    gap_to: int | None
    # Transactions in the whole ledger, all chunks.
    transaction_count: int
    # Sum of the fees of the whole ledger, all chunks, in drops.
    fees: int
    # Version of the decoder that made the effects.
    decoder_version: int
    # Transactions of this chunk by transaction_index.
    transactions: list[XrplTransaction]


class StateBalance(TypedDict):
    """A balance as it stands."""

    # Whose balance.
    account: str
    # XRP (any network's native coin, in drops), <currency>.<issuer> with the counterparty as issuer, or
    # mpt:<issuance id>.
    asset: str
    # Exact decimal.
    balance: str


class StateNft(TypedDict):
    """One NFT."""

    # NFTokenID, 64 hex digits.
    nft_id: str
    # Owner, from the page that it stands on.
    owner: str
    # URI, hex as on the ledger.
    uri: str | None


class StateMpt(TypedDict):
    """One MPToken or MPTokenIssuance."""

    # Place among the MPT rows of the whole state, from 1.
    row_number: int
    # MPT issuance id, 48 hex digits.
    issuance: str
    # Holder; null for the issuance itself.
    account: str | None
    # Issuer, from the issuance id.
    issuer: str
    # MPTAmount (holder); 0 for an issuance.
    amount: str
    # LockedAmount.
    locked: str
    # OutstandingAmount (issuance); 0 for a holder.
    outstanding: str


class StateObject(TypedDict):
    """One ledger entry."""

    # LedgerEntryType.
    entry_type: str
    # LedgerIndex, 64 hex digits.
    entry_id: str
    # Who owns the entry.
    owner: str | None
    # Who is to receive.
    destination: str | None
    # Asset of `amount`.
    asset: str | None
    # What the entry says it has, as in xrpl.ledgers.v1.
    amount: str | None
    # PayChannel: paid out so far.
    balance: str | None
    # Asset of `counter_amount` (Offer TakerPays).
    counter_asset: str | None
    # What is asked in return.
    counter_amount: str | None
    # What the entry is about: the NFTokenID of an NFTokenOffer.
    reference: str | None
    # Asset that the entry itself holds (Escrow, PayChannel), else null.
    held_asset: str | None
    # What the entry itself holds, exact decimal; 0 where it holds nothing.
    held: str


class XrplState(TypedDict):
    """One page of the whole state of one validated XRP Ledger ledger: what every entry holds, as the starting
    state of the run that begins with the next ledger. Published only after the root of the state was
    recomputed from all of its entries."""

    # Name of the chain: xrpl:<network>.
    chain: str
    # Number of the chain in the registry of chains.
    chain_number: int
    # First ledger of the run that starts from this state: ledger_index + 1.
    run: int
    # Ledger whose state this is, after all of its transactions.
    ledger_index: int
    # Number of this page, from 0. Pages follow the order of the entries' indexes and are cut by the entries
    # alone: the same state gives the same pages.
    page: int
    # True on the last page: the state is whole when all pages up to it are there.
    last: bool
    # Close time of the ledger (UTC; milliseconds since 1970).
    close_time: int
    # Hash of the ledger header, 64 hex digits; recomputed from it.
    ledger_hash: str
    # Root of the state tree, 64 hex digits; recomputed from all entries.
    account_hash: str
    # Native coins in existence after the ledger, in drops: those that the run starts with.
    total_coins: int
    # First missing ledger before this state, where the chain was followed before and the gap was accepted:
    # then balances of 0 stand here too. Null: the chain's books begin here, and what is 0 is left out.
    gap_from: int | None
    # Ledger entries that this page was read from, those without value included.
    entries: int
    # Version of the decoder that read the entries.
    decoder_version: int
    # One row per (account, asset), seen from the account; of a trust line one from each side.
    balances: list[StateBalance]
    # NFTs and their owners.
    nfts: list[StateNft]
    # MPT holders (account set) and issuances (account null).
    mpts: list[StateMpt]
    # Ledger entries that hold or promise value or record a right, types not known here too.
    objects: list[StateObject]

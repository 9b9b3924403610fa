"""Typed records of the topics. GENERATED from schemas/**/*.avsc by `python -m schemas.generate`:
do not edit.

Times are integers in the unit that the comment names; keys stand in the order they are written.
"""

from typing import Literal, TypedDict

ANCHORS_EVENTS_V1 = "anchors.events.v1"
APPLICATIONS_OUTCOMES_V1 = "applications.outcomes.v1"
APPLICATIONS_STATES_V1 = "applications.states.v1"
ASSETS_ACTIVITY_V1 = "assets.activity.v1"
ASSETS_CHANGES_V1 = "assets.changes.v1"
BOOKS_ACCOUNTS_V1 = "books.accounts.v1"
BOOKS_TRANSFERS_V1 = "books.transfers.v1"
CHAIN_OUTBOX_V1 = "chain.outbox.v1"
CHAINS_VERDICTS_V1 = "chains.verdicts.v1"
CONTROL_ALERTS_V1 = "control.alerts.v1"
EVM_BLOCKS_V1 = "evm.blocks.v1"
EVM_CONTRACTS_V1 = "evm.contracts.v1"
GAS_CHARGES_V1 = "gas.charges.v1"
PEOPLE_DATA_V1 = "people.data.v1"
POSITIONS_EVENTS_V1 = "positions.events.v1"
QUARANTINE_V1 = "quarantine.v1"
TOKENS_EVENTS_V1 = "tokens.events.v1"
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


class AnchorAccountOpened(TypedDict):
    """An account in the books for a user or a merchant: nobody is paid who has none."""

    # Whose account it is: a user id or a merchant id.
    owner: str
    # USER or MERCHANT.
    account_type: str
    # Asset by S4's name: USD, EUR, GBP, BTC, ETH, USDC, USDT, SOVR or sFIAT.
    asset: str


class AnchorMerchantRegistered(TypedDict):
    """A merchant: who may be named by claims of its anchors and have merchant accounts. The event's key is
    its id."""

    # What the shop is called, in up to 80 letters; nothing of a person.
    name: str
    # Anchors that it serves: GROCERY, UTILITY, FUEL.
    anchors: list[str]


class AnchorMerchantRevoked(TypedDict):
    """A merchant is named by no new authorization, claim or account; what it has claimed may be fulfilled,
    and its accounts stay (ACCOUNT_FROZEN stops them)."""

    # Why, as a code, e.g. fraud.
    reason: str | None


class AnchorAttestorRegistered(TypedDict):
    """Who may attest fulfilments of anchors. The event's key is its id."""

    # Its Ed25519 public key (RFC 8032): 64 hex digits.
    public_key: str
    # Anchors whose fulfilment it attests: GROCERY, UTILITY, FUEL.
    anchors: list[str]


class AnchorAttestorRevoked(TypedDict):
    """An attestor's signature counts no more for events after this one."""

    # Why, as a code, e.g. fraud.
    reason: str | None


class AnchorAuthorized(TypedDict):
    """A user sets units of SOVR aside for an anchor: USER → SYSTEM_BUFFER."""

    # Who spends.
    user: str
    # GROCERY, UTILITY or FUEL.
    anchor: str
    # Whole units of SOVR.
    amount: str
    # The only merchant who may be named by the claim; null = any who serves the anchor.
    merchant: str | None
    # Its end: claim and fulfilment must be before it.
    expires_at: int


class AnchorClaimed(TypedDict):
    """An authorization becomes the anchor's obligation: SYSTEM_BUFFER → ANCHOR."""

    # Registered merchant who will deliver; null = the authorization's, or none.
    merchant: str | None


class AnchorFulfilled(TypedDict):
    """What was promised was delivered, and an attestor has signed for it: ANCHOR → TREASURY, the units are
    spent."""

    # What the fulfilment rests on: a reference, e.g. a receipt's number, or a hash; the signature covers its
    # SHA-256.
    proof: str
    # Registered attestor who signed.
    attestor: str
    # When it signed, as it stands in the signed message.
    attested_at: int
    # Ed25519 signature (128 hex digits) of the line tidebook/fulfilment/1, a line feed, and the JSON {amount,
    # anchor, attested_at, authorization_id, proof_sha256} in this order without spaces; amount is the
    # authorization's, a string; attested_at in milliseconds; proof_sha256 64 hex digits in lower case.
    signature: str


class AnchorAuthorizationExpired(TypedDict):
    """An authorization has reached its end unfulfilled: the units go back to the user."""

    # Why, as a code, e.g. fraud.
    reason: str | None


class AnchorDeposited(TypedDict):
    """Value enters an account: TREASURY → customer."""

    # Whose account it is: a user id or a merchant id.
    owner: str
    # USER or MERCHANT.
    account_type: str
    # Asset by S4's name: USD, EUR, GBP, BTC, ETH, USDC, USDT, SOVR or sFIAT.
    asset: str
    # Units as a decimal; at most as many decimals as the asset has (SOVR and sFIAT: none).
    amount: str


class AnchorWithdrawn(TypedDict):
    """Value leaves an account: customer → TREASURY."""

    # Whose account it is: a user id or a merchant id.
    owner: str
    # USER or MERCHANT.
    account_type: str
    # Asset by S4's name: USD, EUR, GBP, BTC, ETH, USDC, USDT, SOVR or sFIAT.
    asset: str
    # Units as a decimal; at most as many decimals as the asset has (SOVR and sFIAT: none).
    amount: str


class AnchorPaid(TypedDict):
    """A user pays. Its event id is the payment's id."""

    # User who pays.
    payer: str
    # Who is paid.
    payee: str
    # USER or MERCHANT.
    payee_type: str
    # Asset by S4's name: USD, EUR, GBP, BTC, ETH, USDC, USDT, SOVR or sFIAT.
    asset: str
    # Units as a decimal; at most as many decimals as the asset has (SOVR and sFIAT: none).
    amount: str


class AnchorRefunded(TypedDict):
    """A payment, or part of it, goes back; all refunds together are at most the payment."""

    # Event id of the payment.
    reference: str
    # Units as a decimal; at most as many decimals as the asset has (SOVR and sFIAT: none).
    amount: str
    # Why, as a code, e.g. fraud.
    reason: str | None


class AnchorFeeCharged(TypedDict):
    """A fee: customer → FEE_POOL."""

    # Whose account it is: a user id or a merchant id.
    owner: str
    # USER or MERCHANT.
    account_type: str
    # Asset by S4's name: USD, EUR, GBP, BTC, ETH, USDC, USDT, SOVR or sFIAT.
    asset: str
    # Units as a decimal; at most as many decimals as the asset has (SOVR and sFIAT: none).
    amount: str
    # Event id of what it is charged for.
    reference: str | None
    # Why, as a code, e.g. fraud.
    reason: str | None


class AnchorEscrowLocked(TypedDict):
    """Units of a user are locked: a pending transfer to ESCROW. The event's key is the escrow's id."""

    # User whose units are locked.
    owner: str
    # Asset by S4's name: USD, EUR, GBP, BTC, ETH, USDC, USDT, SOVR or sFIAT.
    asset: str
    # Units as a decimal; at most as many decimals as the asset has (SOVR and sFIAT: none).
    amount: str
    # The only one who may be paid by a release; null = anybody.
    beneficiary: str | None
    # When the lock ends; null = never.
    expires_at: int | None


class AnchorEscrowReleased(TypedDict):
    """An escrow is paid out, once; what is not released goes back to its owner."""

    # Who is paid.
    recipient: str
    # USER or MERCHANT.
    recipient_type: str
    # Units as a decimal; null = all that is locked.
    amount: str | None


class AnchorEscrowVoided(TypedDict):
    """An escrow is given up: all goes back to its owner."""

    # Why, as a code, e.g. fraud.
    reason: str | None


class AnchorEscrowLapsed(TypedDict):
    """An escrow has reached its end: all goes back to its owner."""

    # Why, as a code, e.g. fraud.
    reason: str | None


class AnchorSettled(TypedDict):
    """A merchant is paid out in the real world: MERCHANT → TREASURY. Its event id is the settlement's id."""

    # Merchant who is paid out.
    merchant: str
    # Asset by S4's name: USD, EUR, GBP, BTC, ETH, USDC, USDT, SOVR or sFIAT.
    asset: str
    # Units as a decimal; at most as many decimals as the asset has (SOVR and sFIAT: none).
    amount: str


class AnchorSettlementReversed(TypedDict):
    """A payout did not arrive: the whole settlement back, once."""

    # Event id of the settlement.
    reference: str
    # Why, as a code, e.g. fraud.
    reason: str | None


class AnchorAccountFrozen(TypedDict):
    """An account takes and gives nothing until it is thawed."""

    # Whose account it is: a user id or a merchant id.
    owner: str
    # USER or MERCHANT.
    account_type: str
    # Asset by S4's name: USD, EUR, GBP, BTC, ETH, USDC, USDT, SOVR or sFIAT.
    asset: str
    # Why, as a code, e.g. fraud.
    reason: str | None


class AnchorAccountThawed(TypedDict):
    """A frozen account is active again."""

    # Whose account it is: a user id or a merchant id.
    owner: str
    # USER or MERCHANT.
    account_type: str
    # Asset by S4's name: USD, EUR, GBP, BTC, ETH, USDC, USDT, SOVR or sFIAT.
    asset: str
    # Why, as a code, e.g. fraud.
    reason: str | None


class AnchorAccountClosed(TypedDict):
    """An empty account is closed for good."""

    # Whose account it is: a user id or a merchant id.
    owner: str
    # USER or MERCHANT.
    account_type: str
    # Asset by S4's name: USD, EUR, GBP, BTC, ETH, USDC, USDT, SOVR or sFIAT.
    asset: str
    # Why, as a code, e.g. fraud.
    reason: str | None


class AnchorEvent(TypedDict):
    """S4: authorizations of anchors and the other flows of its books: deposits, payments, fees, escrows,
    settlements."""

    # Id of the event: 32 hex digits of the hash of (topic, client, the API key's user where it has one,
    # idempotency key); the same request has the same id for ever.
    event_id: str
    # Event type; the field of that name in lower case holds what it says, all others are null.
    type: str
    # Authorization that it is about; for other flows their subject, or the owner's id.
    authorization_id: str
    # Who acts; null where a service does.
    user_id: str | None
    # Application that tells it; empty for none.
    app_id: str
    # Client of the API key that sent it; clock and chain for the pipeline's own.
    client: str
    # The client's name for the request.
    idempotency_key: str
    # Way it came: api, webhook:<name>, clock (an end that time has reached), chain:<chain>.
    source: str
    # Event time: when it happened; rules judge time by it.
    at: int
    # When the intake took it in.
    recorded_at: int
    # ACCOUNT_OPENED: an account in the books for a user or a merchant: nobody is paid who has none.
    account_opened: AnchorAccountOpened | None
    # MERCHANT_REGISTERED: a merchant: who may be named by claims of its anchors and have merchant accounts.
    # The event's key is its id.
    merchant_registered: AnchorMerchantRegistered | None
    # MERCHANT_REVOKED: a merchant is named by no new authorization, claim or account; what it has claimed may
    # be fulfilled, and its accounts stay (ACCOUNT_FROZEN stops them).
    merchant_revoked: AnchorMerchantRevoked | None
    # ATTESTOR_REGISTERED: who may attest fulfilments of anchors. The event's key is its id.
    attestor_registered: AnchorAttestorRegistered | None
    # ATTESTOR_REVOKED: an attestor's signature counts no more for events after this one.
    attestor_revoked: AnchorAttestorRevoked | None
    # AUTHORIZED: a user sets units of SOVR aside for an anchor: USER → SYSTEM_BUFFER.
    authorized: AnchorAuthorized | None
    # CLAIMED: an authorization becomes the anchor's obligation: SYSTEM_BUFFER → ANCHOR.
    claimed: AnchorClaimed | None
    # FULFILLED: what was promised was delivered, and an attestor has signed for it: ANCHOR → TREASURY, the
    # units are spent.
    fulfilled: AnchorFulfilled | None
    # AUTHORIZATION_EXPIRED: an authorization has reached its end unfulfilled: the units go back to the user.
    authorization_expired: AnchorAuthorizationExpired | None
    # DEPOSITED: value enters an account: TREASURY → customer.
    deposited: AnchorDeposited | None
    # WITHDRAWN: value leaves an account: customer → TREASURY.
    withdrawn: AnchorWithdrawn | None
    # PAID: a user pays. Its event id is the payment's id.
    paid: AnchorPaid | None
    # REFUNDED: a payment, or part of it, goes back; all refunds together are at most the payment.
    refunded: AnchorRefunded | None
    # FEE_CHARGED: a fee: customer → FEE_POOL.
    fee_charged: AnchorFeeCharged | None
    # ESCROW_LOCKED: units of a user are locked: a pending transfer to ESCROW. The event's key is the escrow's
    # id.
    escrow_locked: AnchorEscrowLocked | None
    # ESCROW_RELEASED: an escrow is paid out, once; what is not released goes back to its owner.
    escrow_released: AnchorEscrowReleased | None
    # ESCROW_VOIDED: an escrow is given up: all goes back to its owner.
    escrow_voided: AnchorEscrowVoided | None
    # ESCROW_LAPSED: an escrow has reached its end: all goes back to its owner.
    escrow_lapsed: AnchorEscrowLapsed | None
    # SETTLED: a merchant is paid out in the real world: MERCHANT → TREASURY. Its event id is the settlement's
    # id.
    settled: AnchorSettled | None
    # SETTLEMENT_REVERSED: a payout did not arrive: the whole settlement back, once.
    settlement_reversed: AnchorSettlementReversed | None
    # ACCOUNT_FROZEN: an account takes and gives nothing until it is thawed.
    account_frozen: AnchorAccountFrozen | None
    # ACCOUNT_THAWED: a frozen account is active again.
    account_thawed: AnchorAccountThawed | None
    # ACCOUNT_CLOSED: an empty account is closed for good.
    account_closed: AnchorAccountClosed | None


class EventOutcome(TypedDict):
    """What became of an application's event: applied, or refused and why. One message per event."""

    # The event.
    event_id: str
    # Topic that it stands in.
    topic: str
    # Its type.
    type: str
    # Its key: asset, position, account or authorization.
    key: str
    # applied, or refused: nothing of it happened.
    status: str
    # Why it was refused, in one word.
    reason: str
    # Field of the event at fault.
    field: str
    # The same in one line.
    detail: str
    # Event time.
    at: int
    # Applied events of assets: application that told it, or else whose asset it is of; empty for none. Null
    # of others.
    app_id: str | None
    # Applied events of assets: who acted; null where a service did.
    user_id: str | None
    # SOLD and gas in managed custody: currency of the amounts; else empty.
    currency: str
    # SOLD: what was paid, price × units, an exact decimal.
    volume: str
    # Gas in managed custody: what it cost, in the currency's smallest unit.
    gas_required: str
    # Part of it that the payer paid.
    gas_paid_by_user: str
    # Part of it that the treasury paid.
    gas_paid_by_treasury: str
    # Gas in managed custody: the user whom it is charged to; else empty.
    payer_user_id: str
    # Gas in managed custody that a treasury covers: its transaction on the chain; else empty.
    treasury_tx_hash: str
    # Gas in managed custody: event of the asset that the gas was for; else empty.
    related_transaction_id: str


class ApplicationState(TypedDict):
    """A state that an event has changed: of an asset, a user, a position, an account, … One message per
    change; the newest of a key is what is."""

    # The topic's key: <domain>/<kind>/<id>.
    state: str
    # assets, positions, tokens or anchors.
    domain: str
    # What it is a state of, e.g. asset, position, account.
    kind: str
    # Which one.
    id: str
    # How often it was changed: 1, 2, …
    version: int
    # The state as JSON, amounts as decimal strings; empty where it is no more.
    value: str
    # It is no more.
    gone: bool
    # Event that led to it.
    event_id: str
    # Time of that event; of an asset never before the state that it follows.
    at: int


class UserRegistered(TypedDict):
    """A user: who may own assets and act. Nothing personal: a reference of the application's own."""

    # Addresses on chains that are the user's: <chain>/<address>.
    addresses: list[str]


class ChainObserved(TypedDict):
    """What a chain has done with a token of an application's issuers, or a transaction that one of its
    treasuries has paid: S0's XRPL sync, final facts alone."""

    # token = a token moved; fee = a treasury paid a transaction's fee.
    kind: str
    # Chain it happened on, e.g. xrpl:0.
    chain: str
    # Key of the token, <chain>/nft:<NFTokenID>, <chain>/mpt:<issuance id> or <chain>/erc721:<contract>/<token
    # id>; null for a fee.
    token: str | None
    # minted, transferred, burnt: a token, or units of an MPT issuance (transferred), went from holder to
    # holder; issued, changed, destroyed: the MPT issuance itself; opened: it stood there in the starting
    # state; paid: a fee.
    action: str
    # Holder before, <chain>/<address>; null = did not exist. The payer of a fee.
    from_address: str | None
    # Holder after, <chain>/<address>; null = exists no more.
    to_address: str | None
    # Units that moved (opened: that the holder had); of issued, changed and destroyed the units outstanding
    # after it; of a fee its drops or wei.
    amount: str
    # Hash of the transaction.
    tx_hash: str
    # Ledger index or block number.
    block: int
    # Place of the transaction in the block; -1 = the starting state after that block.
    transaction_index: int
    # Place of the change in the transaction.
    change_index: int


class AppRegistered(TypedDict):
    """An application whose assets these are."""

    # Name of the application.
    title: str
    # Addresses that issue its tokens: <chain>/<address>.
    issuers: list[str]
    # Addresses that hold the tokens in its custody and pay its users' gas: <chain>/<address>.
    treasuries: list[str]


class AssetEntry(TypedDict):
    """An asset's entry in the global list (S0's asset_registry) and what its state starts with."""

    # Kind of asset, the application's own word, e.g. card.
    asset_type: str
    # Title.
    title: str
    # Picture.
    thumbnail_url: str | None
    # User who issues it; null = the application.
    issuer_user_id: str | None
    # Id of the tag that it is bound to (TapMint); unique. A UUID is one in every spelling: kept in lower
    # case, with dashes.
    nfc_uuid: str | None
    # MPT issuance on the XRP Ledger, 48 hex digits; unique.
    mpt_issuance_id: str | None
    # Key of its token on a chain: <chain>/nft:<NFTokenID>, <chain>/mpt:<issuance id> or
    # <chain>/erc721:<contract>/<token id>; unique. Null = none, or not known before it is minted.
    token: str | None
    # First owner; null = MINTED tells. In custody of the chain the holder's user is the owner.
    owner_user_id: str | None
    # managed (by the application) or onchain; hybrid comes of units sent to the chain.
    custody_type: str
    # pack or bundle for what is meant to hold other assets.
    container_type: str | None


class AssetMinted(TypedDict):
    """The asset is there from now on (S0's MINTED)."""

    # First owner, where the entry names none.
    to_user_id: str | None
    # Key of its token, where the entry could not know it.
    token: str | None
    # Transaction that minted the token on the chain.
    tx_hash: str | None


class AssetTransferred(TypedDict):
    """A whole asset with all that is in it, or units of one, to somebody else."""

    # Who owns it from now on.
    to_user_id: str
    # Who owned it; needed for units where a service acts.
    from_user_id: str | None
    # Units of a fractioned asset, a whole number; null = the whole asset.
    units: str | None


class AssetFractioned(TypedDict):
    """One piece becomes n units in a book of their own, all of them the owner's."""

    # How many units: 2 to 10^12.
    fraction_count: int


class AssetMerged(TypedDict):
    """Whoever holds all units has one piece again."""

    # Why, in a word or a line; nothing personal.
    reason: str | None


class PackCreated(TypedDict):
    """Assets are put into a container, which is the asset of the event."""

    # pack (of plain assets) or bundle (of containers too).
    container_type: str
    # Assets that go in, all of the container's owner.
    contents: list[str]


class PackOpened(TypedDict):
    """The content of a container is loose, and the opener's."""

    # Tag that was read; must be the asset's own.
    nfc_uuid: str | None


class AssetBurned(TypedDict):
    """The asset is no more; one whose token is on a chain is burnt by ONCHAIN_BURN."""

    # Why, in a word or a line; nothing personal.
    reason: str | None


class AssetListed(TypedDict):
    """For sale from now on."""

    # Price above 0, decimal: of the whole asset, or of one unit.
    price: str
    # Currency of the price.
    currency: str
    # Units of a fractioned asset, a whole number; null = the whole asset.
    units: str | None
    # Whose units are listed, where a service acts.
    seller_user_id: str | None
    # Marketplace where it stands.
    marketplace: str | None


class AssetDelisted(TypedDict):
    """Not for sale any more."""

    # Whose listing of units ends, where a service acts.
    seller_user_id: str | None
    # Why, in a word or a line; nothing personal.
    reason: str | None


class AssetSold(TypedDict):
    """The asset, or units of it, is the buyer's; it was listed at that price."""

    # Buyer.
    to_user_id: str
    # Seller; needed for units where a service acts.
    from_user_id: str | None
    # Price as listed: of the whole asset, or of one unit.
    price: str
    # Currency of the price.
    currency: str
    # Units of a fractioned asset, a whole number; null = the whole asset.
    units: str | None
    # Marketplace where it stands.
    marketplace: str | None


class InternalGasCharge(TypedDict):
    """Who paid which part of the gas of a transaction in managed custody."""

    # User whose gas it is.
    payer_user_id: str
    # Native coin that the gas is paid in, e.g. XRP, in capital letters; its book is offchain/gas:<currency>.
    currency: str
    # What the transaction cost, in whole smallest units (drops, wei).
    gas_required: str
    # Part of it that the user paid.
    gas_paid_by_user: str
    # Part of it that the application's treasury paid, if no INTERNAL_GAS_COVERAGE says so; both parts make up
    # the whole.
    gas_paid_by_treasury: str
    # Event id of the applied transaction of this asset that the gas was for.
    related_transaction_id: str | None


class InternalGasCoverage(TypedDict):
    """Gas that a treasury paid for a user, with the treasury's transaction on the chain."""

    # User whose gas it is.
    payer_user_id: str
    # Native coin of the chain that the gas is paid on: XRP, ETH, …. Its book is offchain/gas:<currency>.
    currency: str
    # What the transaction cost, in whole smallest units (drops, wei).
    gas_required: str
    # Part of it that the user paid.
    gas_paid_by_user: str
    # Part of it that the application's treasury paid; both parts make up the whole.
    gas_paid_by_treasury: str
    # Transaction of the treasury, looked up on the chain: its payer must be a treasury of the application,
    # its fee the part that the treasury paid, in the chain's own coin.
    treasury_tx_hash: str
    # Event id of the applied transaction of this asset that the gas was for.
    related_transaction_id: str | None


class OnchainSend(TypedDict):
    """Out of the application's custody to an address; done when the chain's transaction is known."""

    # Where it goes: <chain>/<address>.
    to_address: str
    # Transaction that does it.
    tx_hash: str
    # Units of a fractioned asset, a whole number; null = the whole asset.
    units: str | None
    # Whose units go, where a service acts.
    from_user_id: str | None


class OnchainReceive(TypedDict):
    """Into the application's custody; done when the chain's transaction is known."""

    # Who owns it in the application's custody.
    to_user_id: str
    # Transaction that brings it to a treasury.
    tx_hash: str
    # Units of a fractioned asset, a whole number; null = the whole asset.
    units: str | None


class OnchainBurn(TypedDict):
    """Burnt when the chain's transaction has burnt the token."""

    # Transaction that does it.
    tx_hash: str
    # Why, in a word or a line; nothing personal.
    reason: str | None


class OnchainCancelled(TypedDict):
    """A request that waits for a transaction which will not be."""

    # Transaction that was waited for.
    tx_hash: str
    # Why, in a word or a line; nothing personal.
    reason: str | None


class AssetMetadataUpdated(TypedDict):
    """What the asset is called and looks like from now on."""

    # New title; null = as it was.
    title: str | None
    # New picture; null = as it was.
    thumbnail_url: str | None


class AssetScanned(TypedDict):
    """Somebody has read the asset's tag."""

    # Tag that was read; must be the asset's own.
    nfc_uuid: str | None


class StoryAdded(TypedDict):
    """Somebody has told a story about the asset."""

    # The application's id of the story.
    story_id: str
    # Title of the story.
    title: str | None
    # Where the content is kept; it may be personal, so it is never in the event itself.
    content_uri: str | None
    # Hash of the content.
    content_hash: str | None


class AssetViewed(TypedDict):
    """Somebody has looked at the asset."""

    # Where: page, feed, map, …
    surface: str | None


class PackTapped(TypedDict):
    """Somebody has tapped a pack or bundle."""

    # Tag that was read; must be the asset's own.
    nfc_uuid: str | None


class SocialAction(TypedDict):
    """Something else that somebody did about the asset."""

    # What: follow, save, …
    action: str
    # What it was done to, if not the asset itself.
    target: str | None


class ReactionAdded(TypedDict):
    """Somebody has reacted."""

    # Which: like, fire, …
    reaction: str
    # Story that it is to, if not the asset itself.
    story_id: str | None


class CommentAdded(TypedDict):
    """Somebody has commented."""

    # The application's id of the comment.
    comment_id: str
    # Comment that it answers.
    reply_to: str | None
    # Where the content is kept; it may be personal, so it is never in the event itself.
    content_uri: str | None
    # Hash of the content.
    content_hash: str | None


class AssetShared(TypedDict):
    """Somebody has shared the asset."""

    # Where to: link, message, a network's name.
    channel: str


class UserAddressesChanged(TypedDict):
    """A user has other addresses on chains from now on: what stands there in custody of the chain is his who
    has the address."""

    # Addresses on chains that become the user's: <chain>/<address>; nobody else's.
    added: list[str]
    # Addresses that are the user's no more, and may become another's.
    removed: list[str]


class AssetActivity(TypedDict):
    """S0: what applications, and the chains, tell of an application's assets: registry entries,
    asset_transactions, asset_events, gas."""

    # Id of the event: 32 hex digits of the hash of (topic, client, the API key's user where it has one,
    # idempotency key); the same request has the same id for ever.
    event_id: str
    # Event type; the field of that name in lower case holds what it says, all others are null.
    type: str
    # Asset that it is about; for entries of users and applications their id.
    asset_id: str
    # Who acts; null where a service does.
    user_id: str | None
    # Application that tells it; empty for none.
    app_id: str
    # Client of the API key that sent it; clock and chain for the pipeline's own.
    client: str
    # The client's name for the request.
    idempotency_key: str
    # Way it came: api, webhook:<name>, clock (an end that time has reached), chain:<chain>.
    source: str
    # Event time: when it happened; rules judge time by it.
    at: int
    # When the intake took it in.
    recorded_at: int
    # USER_REGISTERED: a user, the one that user ids stand for.
    user_registered: UserRegistered | None
    # CHAIN_OBSERVED: what a chain has done with an application's token or treasury.
    chain_observed: ChainObserved | None
    # APP_REGISTERED: an application and its addresses on chains.
    app_registered: AppRegistered | None
    # ASSET_REGISTERED: an asset's entry in the registry.
    asset_registered: AssetEntry | None
    # MINTED: the asset is there, and somebody's.
    minted: AssetMinted | None
    # TRANSFERRED: the asset, or units of it, to another user.
    transferred: AssetTransferred | None
    # FRACTIONED: one piece becomes units.
    fractioned: AssetFractioned | None
    # MERGED: units become one piece again.
    merged: AssetMerged | None
    # PACK_CREATED: assets are put into this one.
    pack_created: PackCreated | None
    # PACK_OPENED: what is in it is loose.
    pack_opened: PackOpened | None
    # BURNED: the asset is no more.
    burned: AssetBurned | None
    # LISTED: for sale.
    listed: AssetListed | None
    # DELISTED: not for sale any more.
    delisted: AssetDelisted | None
    # SOLD: sold at the listed price.
    sold: AssetSold | None
    # INTERNAL_GAS_CHARGE: gas in managed custody.
    internal_gas_charge: InternalGasCharge | None
    # INTERNAL_GAS_COVERAGE: gas that a treasury paid.
    internal_gas_coverage: InternalGasCoverage | None
    # ONCHAIN_SEND: out of the application's custody.
    onchain_send: OnchainSend | None
    # ONCHAIN_RECEIVE: into the application's custody.
    onchain_receive: OnchainReceive | None
    # ONCHAIN_BURN: the token is burnt on the chain.
    onchain_burn: OnchainBurn | None
    # ONCHAIN_CANCELLED: a request that waits for the chain ends.
    onchain_cancelled: OnchainCancelled | None
    # METADATA_UPDATED: title and picture.
    metadata_updated: AssetMetadataUpdated | None
    # SCANNED: somebody has read its tag.
    scanned: AssetScanned | None
    # STORY_ADDED: somebody has told a story of it.
    story_added: StoryAdded | None
    # VIEWED: somebody has looked at it.
    viewed: AssetViewed | None
    # PACK_TAPPED: somebody has tapped a pack.
    pack_tapped: PackTapped | None
    # SOCIAL_ACTION: somebody did something about it.
    social_action: SocialAction | None
    # REACTION_ADDED: a reaction.
    reaction_added: ReactionAdded | None
    # COMMENT_ADDED: a comment.
    comment_added: CommentAdded | None
    # SHARED: shared with others.
    shared: AssetShared | None
    # USER_ADDRESSES_CHANGED: addresses on chains that a user gets and gives up.
    user_addresses_changed: UserAddressesChanged | None


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


class ChainOutbox(TypedDict):
    """An attestation to be written to a chain: S1's dual ledger. Whoever signs for the chain puts its digest
    into a transaction (memo type tidebook/attestation); the pipeline reads it back from there."""

    # Id of the attestation: its digest in lower case.
    attestation_id: str
    # S1's positionId: the position whose event is attested.
    position_id: str
    # Event that is attested.
    event_id: str
    # S1's kind: POSITION_CREATED or POSITION_STATE_CHANGED.
    kind: str
    # S1's payloadJson; of a state change {fromState, toState, reason, at}.
    payload_json: str
    # SHA-256 (64 hex digits) of the JSON {eventId, positionId, kind, payloadJson} in this order, without
    # spaces, UTF-8: what the transaction carries.
    digest: str
    # Time of the event.
    at: int


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


class PersonData(TypedDict):
    """Personal data, the only place that holds any: all other topics know a person by a reference and
    documents by salted hashes. A tombstone of the same key erases it for ever; every balance, state and root
    stays as it is."""

    # Reference of the person, as the events of other topics have it: 16 to 64 letters and digits made by
    # chance (in tokens.events.v1: 32 to 64 hex digits), or of a salt: also a UUID, and a prefix as slt_.
    person: str
    # What the data is about: profile, membership, patient, prescription, salt, …
    kind: str
    # When it was said.
    at: int
    # The data as a JSON object, with the salts of the person's hashes; null: there is none any more.
    data: str | None


class InstitutionRegistered(TypedDict):
    """An institution that offers positions."""

    # What it is called.
    name: str
    # Region it is in, e.g. EU.
    region: str


class AssetTemplateRegistered(TypedDict):
    """A template of an institution's assets: their regional policy, and whether their positions are attested
    on a chain. A template never changes."""

    # Institution that it belongs to.
    institution_id: str
    # What it is called.
    name: str
    # On-chain switch: every event of its positions is queued as an attestation for the chain.
    onchain_enabled: bool
    # Regional policy: regions in which its assets and their holders may be; none = everywhere.
    regions: list[str]
    # Regional policy: currencies of its positions; none = all that the books know.
    currencies: list[str]


class PositionAssetRegistered(TypedDict):
    """An asset of an institution: what positions are held in."""

    # Template that it follows, one of the same institution.
    template_id: str
    # Institution that it belongs to.
    institution_id: str
    # Region it is in; the template's policy must allow it.
    region: str
    # What it is called.
    name: str | None


class PositionCreated(TypedDict):
    """A position: money to be held in escrow for its holder. S1's POSITION_CREATED."""

    # Institution of the asset.
    institution_id: str
    # Asset that it is a position of.
    asset_id: str
    # Whose position it is: owner of the escrow account, and who is paid where a release names nobody.
    holder_reference: str
    # Region of the holder; the template's policy must allow it.
    holder_region: str | None
    # Currency: USD, EUR, GBP, BTC, ETH, USDC, USDT, SOVR or sFIAT.
    currency: str
    # Whole amount as a decimal, e.g. 100000.00; at most as many decimals as the currency has.
    amount: str
    # Reference of the institution's own.
    external_reference: str | None
    # State that it is created in: CREATED.
    new_state: str
    # When it expires if it was not funded before.
    expires_at: int | None


class PositionStateChanged(TypedDict):
    """A position's step from one state to the next, and the money that goes with it. S1's
    POSITION_STATE_CHANGED."""

    # State before: must be the one that is held. CREATED, FUNDED, PARTIALLY_RELEASED.
    previous_state: str
    # State after: FUNDED, PARTIALLY_RELEASED, RELEASED, CANCELLED or EXPIRED, along S1's table.
    new_state: str
    # Why.
    reason: str
    # Whose account pays the whole amount into escrow; FUNDED needs it.
    funder: str | None
    # Units paid out as a decimal; PARTIALLY_RELEASED needs it, below the remainder; RELEASED pays all that
    # remains.
    amount_released: str | None
    # Who is paid by a release; null = the holder.
    recipient: str | None
    # Date of the release as the institution has it.
    release_date: int | None
    # Invoice that a release pays.
    invoice_reference: str | None


class AttestationConfirmed(TypedDict):
    """A transaction on a chain carries an attestation's digest: told by the pipeline from the chain's final
    blocks."""

    # The attestation: its digest, 64 hex digits.
    attestation_id: str
    # Chain, e.g. xrpl:0.
    chain: str
    # Hash of the transaction.
    tx_hash: str
    # Ledger index or block number.
    block: int
    # Place of the transaction in the block.
    transaction_index: int


class PositionEvent(TypedDict):
    """S1: institutions, asset templates, assets and positions: what was created, and every change of a
    position's state."""

    # Id of the event: led_ and 32 hex digits of the hash of (topic, client, the API key's user where it has
    # one, idempotency key); the same request has the same id for ever.
    event_id: str
    # Event type; the field of that name in lower case holds what it says, all others are null.
    type: str
    # Position that it is about; for registry entries their own id.
    position_id: str
    # Who acts; null where a service does.
    user_id: str | None
    # Application that tells it; empty for none.
    app_id: str
    # Client of the API key that sent it; clock and chain for the pipeline's own.
    client: str
    # The client's name for the request.
    idempotency_key: str
    # Way it came: api, webhook:<name>, clock (an end that time has reached), chain:<chain>.
    source: str
    # Event time: when it happened; rules judge time by it.
    at: int
    # When the intake took it in.
    recorded_at: int
    # INSTITUTION_REGISTERED: an institution that offers positions.
    institution_registered: InstitutionRegistered | None
    # ASSET_TEMPLATE_REGISTERED: a template of an institution's assets: their regional policy, and whether
    # their positions are attested on a chain. A template never changes.
    asset_template_registered: AssetTemplateRegistered | None
    # POSITION_ASSET_REGISTERED: an asset of an institution: what positions are held in.
    position_asset_registered: PositionAssetRegistered | None
    # POSITION_CREATED: a position: money to be held in escrow for its holder. S1's POSITION_CREATED.
    position_created: PositionCreated | None
    # POSITION_STATE_CHANGED: a position's step from one state to the next, and the money that goes with it.
    # S1's POSITION_STATE_CHANGED.
    position_state_changed: PositionStateChanged | None
    # ATTESTATION_CONFIRMED: a transaction on a chain carries an attestation's digest: told by the pipeline
    # from the chain's final blocks.
    attestation_confirmed: AttestationConfirmed | None


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


class AssociationCreated(TypedDict):
    """An association: what members, plans, batches and circles belong to."""

    # Name of the association; never a person's.
    title: str
    # Salted hash of its statute; null for none.
    document_hash: str | None
    # Reference of the salt that the hash was made with.
    salt_id: str | None


class MemberCreated(TypedDict):
    """A member of an association, known by references alone."""

    # Association that it belongs to.
    association_id: str
    # Key of the person in people.data.v1: 32 to 64 hex digits made by chance.
    person: str
    # Salted hash of the document: 64 hex digits; the document and its salt are in people.data.v1 or with the
    # association.
    document_hash: str
    # Reference of the salt that the hash was made with.
    salt_id: str


class PatientApproved(TypedDict):
    """A member is approved as a patient."""

    # Association that it belongs to.
    association_id: str
    # Salted hash of the document: 64 hex digits; the document and its salt are in people.data.v1 or with the
    # association.
    document_hash: str
    # Reference of the salt that the hash was made with.
    salt_id: str
    # End of the approval; null: it has none.
    valid_until: int | None


class PrescriptionRegistered(TypedDict):
    """A prescription of an approved patient: one item, up to a quantity, in a period."""

    # Member that it is for.
    patient_id: str
    # Code of the item, e.g. flower.a, oil.10.
    item: str
    # How much may be dispensed on it in all; a decimal above 0 with up to 6 places.
    quantity: str
    # Unit of the quantity, e.g. g, ml, unit.
    unit: str
    # How much may be dispensed at once; null: no other limit.
    dispensation_max: str | None
    # Beginning of its validity.
    valid_from: int
    # End of its validity; at this time it is no longer valid.
    valid_until: int
    # Salted hash of the document: 64 hex digits; the document and its salt are in people.data.v1 or with the
    # association.
    document_hash: str
    # Reference of the salt that the hash was made with.
    salt_id: str


class CultivationPlanCreated(TypedDict):
    """What an association means to grow."""

    # Association that it belongs to.
    association_id: str
    # Code of the item, e.g. flower.a, oil.10.
    item: str
    # Planned harvest; a decimal above 0 with up to 6 places.
    quantity: str
    # Unit of the quantity, e.g. g, ml, unit.
    unit: str
    # Beginning of the plan.
    starts_at: int
    # End of the plan.
    ends_at: int


class InputPurchased(TypedDict):
    """Something was bought for the cultivation: recorded, not posted."""

    # Association that it belongs to.
    association_id: str
    # Plan that it is for; null: for stock.
    plan_id: str | None
    # Reference of the supplier.
    supplier_id: str
    # Code of the item, e.g. flower.a, oil.10.
    item: str
    # How much was bought; a decimal above 0 with up to 6 places.
    quantity: str
    # Unit of the quantity, e.g. g, ml, unit.
    unit: str
    # What it cost; a decimal above 0 with up to 6 places.
    amount: str
    # Currency of the amount, e.g. BRL.
    currency: str


class BatchCreated(TypedDict):
    """A batch of a cultivation plan."""

    # Plan that it comes from.
    plan_id: str
    # Purchases that went into it.
    input_ids: list[str]


class InventoryReceived(TypedDict):
    """An item of a batch came into stock."""

    # Code of the item, e.g. flower.a, oil.10.
    item: str
    # How much came in; a decimal above 0 with up to 6 places.
    quantity: str
    # Unit of the quantity, e.g. g, ml, unit.
    unit: str
    # Code of the place; null where there is only one.
    location: str | None


class InventoryReserved(TypedDict):
    """Part of the stock of a batch is set aside."""

    # Batch whose stock it is.
    batch_id: str
    # Code of the item, e.g. flower.a, oil.10.
    item: str
    # How much is set aside; a decimal above 0 with up to 6 places.
    quantity: str
    # Prescription that it is set aside for; null: for any.
    prescription_id: str | None


class InventoryReleased(TypedDict):
    """What a reservation still holds, or part of it, is free again."""

    # How much is freed, a decimal above 0 with up to 6 places; null: all that it holds.
    quantity: str | None


class DispensationRecorded(TypedDict):
    """An item of a batch was given to a patient on a prescription."""

    # Prescription that it was given on.
    prescription_id: str
    # Batch that it was taken from.
    batch_id: str
    # Code of the item, e.g. flower.a, oil.10.
    item: str
    # How much was given; a decimal above 0 with up to 6 places.
    quantity: str
    # Reservation that it was taken from; null: from the free stock.
    reservation_id: str | None


class QualityCheckPassed(TypedDict):
    """A batch passed its quality check and may be dispensed."""

    # Id of the check.
    check_id: str
    # Hash of the report; null for none.
    document_hash: str | None
    # Reference of the salt that the hash was made with.
    salt_id: str | None


class QualityCheckFailed(TypedDict):
    """A batch failed a quality check: it is blocked for ever."""

    # Id of the check.
    check_id: str
    # Code of what was found, e.g. mould.
    reason_code: str
    # Hash of the report; null for none.
    document_hash: str | None
    # Reference of the salt that the hash was made with.
    salt_id: str | None


class AccountOpened(TypedDict):
    """S3 AccountOpened: an economic account; its id is the event's account_id."""

    # association, member, supplier or infra_company.
    owner_type: str
    # Whose it is: of a member a reference made by chance (a UUID or 32 to 64 hex digits, as mem_…), else a
    # code; nothing personal.
    owner_id: str
    # Owner id of the association that the owner belongs to; restricted tokens move within one.
    association_id: str | None


class AccountStatusChanged(TypedDict):
    """An economic account becomes active, blocked or, once empty, closed for ever."""

    # active, blocked or closed.
    status: str
    # Why, as a code, e.g. documents_missing; nothing personal.
    reason: str


class TokenTypeRegistered(TypedDict):
    """S3 token_type: a further type of token; financial types are refused (regulated_structure_missing)."""

    # Its id, e.g. SEEDLING; the event's account_id too.
    token_type_id: str
    # What it is.
    name: str
    # non_transferable, restricted (within one association, or between allowed owner types) or internal.
    transferability: str
    # What members see in its place.
    visible_label: str
    # What a unit gives, which decides over its name: prepaid, access, merit, governance; receivable, pool,
    # yield, equity, debt are financial.
    substance: str
    # Whether it is a regulated instrument: then it is refused.
    regulated_flag: bool
    # Of a restricted type: owner types between which it moves beyond one association.
    allowed_owner_types: list[str]


class KybRecorded(TypedDict):
    """What compliance found out about the business behind an account (KYB); associations, suppliers and
    infrastructure companies need it for credit."""

    # pending, approved, rejected or expired.
    status: str
    # Who has checked.
    provider: str
    # Id of the check at the provider.
    reference_id: str | None
    # End of an approval; null for none.
    expires_at: int | None


class CreditIssued(TypedDict):
    """S3 CreditIssued: units for the account; of CREDIT within its limit, and owed from then on."""

    # Token type: CREDIT or one that was registered.
    token_type: str
    # Units, above 0: a decimal of at most 14 digits before the point and 6 behind it (numeric(20,6)).
    amount: str
    # What it refers to, e.g. purchase_order, invoice.
    reference_type: str | None
    # Id of that.
    reference_id: str | None


class CreditRedeemed(TypedDict):
    """S3 CreditRedeemed: the account gives units up."""

    # Token type: CREDIT or one that was registered.
    token_type: str
    # Units, above 0: a decimal of at most 14 digits before the point and 6 behind it (numeric(20,6)).
    amount: str
    # use: spent for goods, what is owed stays; return: given back unused, so much less is owed.
    purpose: str
    # What it refers to, e.g. purchase_order, invoice.
    reference_type: str | None
    # Id of that.
    reference_id: str | None


class TokenTransferred(TypedDict):
    """Units go to another account, as far as the type's transferability allows."""

    # Token type: CREDIT or one that was registered.
    token_type: str
    # Units, above 0: a decimal of at most 14 digits before the point and 6 behind it (numeric(20,6)).
    amount: str
    # Account that gets them.
    to_account_id: str
    # Of PO_SHARE: the order whose shares they are.
    purchase_order_id: str | None
    # What it refers to, e.g. purchase_order, invoice.
    reference_type: str | None
    # Id of that.
    reference_id: str | None


class PurchaseOrderCreated(TypedDict):
    """S3 PurchaseOrderCreated: an order that accounts may take shares of."""

    # Its id.
    purchase_order_id: str
    # Most shares that may be issued: a decimal of 14 + 6 digits.
    shares_total: str
    # Account of the supplier.
    supplier_account_id: str | None
    # From then on no more shares; null for open.
    closes_at: int | None
    # The order's id elsewhere.
    reference_id: str | None


class PurchaseOrderShareIssued(TypedDict):
    """S3 PurchaseOrderShareIssued: shares of an order for the account."""

    # The order.
    purchase_order_id: str
    # Units, above 0: a decimal of at most 14 digits before the point and 6 behind it (numeric(20,6)).
    amount: str


class PurchaseOrderShareRedeemed(TypedDict):
    """S3 PurchaseOrderShareRedeemed: the account gives shares of an order up for what they stand for."""

    # The order.
    purchase_order_id: str
    # Units, above 0: a decimal of at most 14 digits before the point and 6 behind it (numeric(20,6)).
    amount: str


class EscrowLocked(TypedDict):
    """S3 EscrowLocked: units of the account are locked for a reference; as long, it holds as much ESCROW, its
    guarantee."""

    # Id of the escrow.
    escrow_id: str
    # Token type: CREDIT or one that was registered.
    token_type: str
    # Units, above 0: a decimal of at most 14 digits before the point and 6 behind it (numeric(20,6)).
    amount: str
    # The one other account that it may be released to.
    beneficiary_account_id: str | None
    # Then it goes back by itself; null for never.
    expires_at: int | None
    # What it refers to, e.g. purchase_order, invoice.
    reference_type: str | None
    # Id of that.
    reference_id: str | None


class EscrowReleased(TypedDict):
    """S3 EscrowReleased: locked units go back to the account, or to the beneficiary."""

    # The escrow.
    escrow_id: str
    # How much; null for all that is left.
    amount: str | None
    # The beneficiary, before the escrow's end only; null for back to the account.
    to_account_id: str | None


class ReputationUpdated(TypedDict):
    """S3 ReputationUpdated: the account's reputation goes up or down, never below 0."""

    # Signed decimal of 14 + 6 digits, not 0.
    change: str
    # Why, as a code, e.g. documents_missing; nothing personal.
    reason: str
    # What it refers to, e.g. purchase_order, invoice.
    reference_type: str | None
    # Id of that.
    reference_id: str | None


class GovernanceRightGranted(TypedDict):
    """S3 GovernanceRightGranted: a right for the account, with its weight in GOVERNANCE."""

    # Its id.
    right_id: str
    # vote, propose, object or moderate.
    right: str
    # The only proposal that it holds for; null for all.
    proposal_id: str | None
    # What it weighs: a decimal above 0 of 14 + 6 digits.
    weight: str
    # Its end; null for none.
    expires_at: int | None


class GovernanceRightRevoked(TypedDict):
    """A right ends: revoked, or its time is over."""

    # The right.
    right_id: str
    # Why, as a code, e.g. documents_missing; nothing personal.
    reason: str


class VoteCast(TypedDict):
    """S3 VoteCast: the account's one vote on a proposal."""

    # The proposal.
    proposal_id: str
    # The right that it votes by.
    right_id: str
    # for, against, abstain, consent or object.
    choice: str


class FeeCharged(TypedDict):
    """S3 FeeCharged: a fee, to the fee pool of the token's book."""

    # Token type: CREDIT or one that was registered.
    token_type: str
    # Units, above 0: a decimal of at most 14 digits before the point and 6 behind it (numeric(20,6)).
    amount: str
    # What it is for, as a code, e.g. service.
    fee_type: str
    # What it refers to, e.g. purchase_order, invoice.
    reference_type: str | None
    # Id of that.
    reference_id: str | None


class PaymentReceived(TypedDict):
    """S3 PaymentReceived: money came in for the account: it pays instalments, then what is owed; what is
    beyond becomes its CREDIT. No unit counts twice."""

    # Units, above 0: a decimal of at most 14 digits before the point and 6 behind it (numeric(20,6)).
    amount: str
    # Reference of the payment where it came in, e.g. the bank's, as a code; nothing personal.
    external_reference: str
    # The schedule whose instalments it pays first; then, or with null, all of the account's in the order in
    # which they are due.
    schedule_id: str | None


class BalanceAdjusted(TypedDict):
    """S3 BalanceAdjusted: a correction; what is owed stays as it is."""

    # Token type: CREDIT or one that was registered; CONTRIB for a decrease only.
    token_type: str
    # Units, above 0: a decimal of at most 14 digits before the point and 6 behind it (numeric(20,6)).
    amount: str
    # increase or decrease.
    direction: str
    # Why, as a code, e.g. documents_missing; nothing personal.
    reason: str
    # What it refers to, e.g. purchase_order, invoice.
    reference_type: str | None
    # Id of that.
    reference_id: str | None


class RiskAssessmentRequested(TypedDict):
    """S3 RiskAssessmentRequested: somebody wants to know the account's risk."""

    # Id of the assessment.
    assessment_id: str
    # What for, as a code, e.g. credit_limit.
    purpose: str


class RiskScoreCalculated(TypedDict):
    """S3 RiskScoreCalculated: the score of an assessment that was requested."""

    # The assessment.
    assessment_id: str
    # 0 (worst) to 1000 (best).
    score: int
    # Model and version that gave it, as a code, e.g. scorecard-2.
    model: str


class CreditLimitGranted(TypedDict):
    """S3 CreditLimitGranted: a first or a higher limit."""

    # Most CREDIT that may be owed from now on: a decimal of 14 + 6 digits.
    limit: str
    # The assessment that it rests on; it must have its score.
    assessment_id: str | None


class CreditLimitReduced(TypedDict):
    """S3 CreditLimitReduced: a lower limit; where more is owed already no more is issued."""

    # Most CREDIT that may be owed from now on: a decimal of 14 + 6 digits.
    limit: str
    # Why, as a code, e.g. documents_missing; nothing personal.
    reason: str


class Instalment(TypedDict):
    """One payment of a schedule."""

    # When it is due.
    due_at: int
    # How much: a decimal above 0 of 14 + 6 digits.
    amount: str


class PaymentScheduleCreated(TypedDict):
    """S3 PaymentScheduleCreated: what the account has to pay and when; the clock tells each step."""

    # Its id.
    schedule_id: str
    # 1 to 120 instalments, each due after the one before it.
    instalments: list[Instalment]
    # Days from due to late.
    grace_days: int
    # Days from late to the notice by the clock; null: a service sends it.
    notice_days: int | None
    # Days from the notice to the default by the clock; null: a service records it.
    default_days: int | None
    # What else it is for, e.g. purchase_order, invoice: an obligation beside the account's CREDIT debt; null,
    # and no reference_id: it is how that debt is to be paid.
    reference_type: str | None
    # Id of that.
    reference_id: str | None


class PaymentDue(TypedDict):
    """S3 PaymentDue: an instalment's time has come."""

    # The schedule.
    schedule_id: str
    # Number of the instalment, from 1.
    instalment: int


class PaymentLate(TypedDict):
    """S3 PaymentLate: it was not paid within its days of grace."""

    # The schedule.
    schedule_id: str
    # Number of the instalment, from 1.
    instalment: int


class CollectionNoticeSent(TypedDict):
    """S3 CollectionNoticeSent: the notice of a late instalment."""

    # The schedule.
    schedule_id: str
    # Number of the instalment, from 1.
    instalment: int
    # Way it was sent, as a code, e.g. email, letter; no address.
    channel: str
    # Id of the notice where it was sent.
    reference_id: str | None


class DefaultRecorded(TypedDict):
    """S3 DefaultRecorded: a noticed instalment is given up as a default; no credit until it is paid."""

    # The schedule.
    schedule_id: str
    # Number of the instalment, from 1.
    instalment: int


class PositionBlocked(TypedDict):
    """S3 PositionBlocked: nothing of a position, or of the whole account, moves."""

    # Position, e.g. escrow:<escrow_id>; null for the whole account.
    position_id: str | None
    # Why, as a code, e.g. documents_missing; nothing personal.
    reason: str


class PositionUnblocked(TypedDict):
    """It may move again."""

    # Position, e.g. escrow:<escrow_id>; null for the whole account.
    position_id: str | None
    # Why, as a code, e.g. documents_missing; nothing personal.
    reason: str


class ProvisionCalculated(TypedDict):
    """S3 ProvisionCalculated: how much is provided for the account's risk from now on; the books get the
    difference."""

    # Token type: CREDIT or one that was registered.
    token_type: str
    # The whole provision: a decimal of 14 + 6 digits, 0 for none.
    amount: str
    # The assessment that it rests on.
    assessment_id: str | None


class CircleCreated(TypedDict):
    """A circle of an association; one without parent is the association's root."""

    # Association that it belongs to.
    association_id: str
    # Parent circle; null for the root.
    parent_circle_id: str | None
    # Name of the circle; never a person's.
    title: str
    # How many accepting reviews accept a contribution to this circle.
    reviews_required: int
    # Economic account of who acts for the circle: it must hold a role there; null where a service acts.
    acting_account_id: str | None


class CircleMoved(TypedDict):
    """A circle gets another parent."""

    # The new parent, of the same association and not below the circle itself.
    parent_circle_id: str
    # Economic account of who acts for the circle: it must hold a role there; null where a service acts.
    acting_account_id: str | None


class RoleCreated(TypedDict):
    """A role of a circle."""

    # Circle that it belongs to.
    circle_id: str
    # Name of the role; never a person's.
    title: str
    # How many may hold it at once; null: any number.
    seats: int | None
    # Economic account of who acts for the circle: it must hold a role there; null where a service acts.
    acting_account_id: str | None


class RoleGranted(TypedDict):
    """The parent circle gives an account a role."""

    # The role.
    role_id: str
    # Circle that grants: the parent of the role's circle; of the root the root itself.
    granted_by: str
    # End of the assignment; null: until it is revoked.
    expires_at: int | None
    # Economic account of who acts for the circle: it must hold a role there; null where a service acts.
    acting_account_id: str | None


class RoleRevoked(TypedDict):
    """The parent circle takes a role back."""

    # The role.
    role_id: str
    # Circle that revokes: the parent of the role's circle; of the root the root itself.
    revoked_by: str
    # Economic account of who acts for the circle: it must hold a role there; null where a service acts.
    acting_account_id: str | None


class TensionRaised(TypedDict):
    """A member of a circle senses what could be better."""

    # Circle that it belongs to.
    circle_id: str
    # Economic account of who raises it; it holds a role in the circle.
    raised_by: str
    # Salted hash of its text: 64 hex digits; the text is kept where it can be erased.
    document_hash: str
    # Reference of the salt that the hash was made with.
    salt_id: str


class ProposalMade(TypedDict):
    """A member of a circle proposes something."""

    # Circle that it belongs to.
    circle_id: str
    # Economic account of who proposes; it holds a role in the circle.
    proposed_by: str
    # Tension that it answers; null for none.
    tension_id: str | None
    # Salted hash of its text: 64 hex digits; the text is kept where it can be erased.
    document_hash: str
    # Reference of the salt that the hash was made with.
    salt_id: str


class ObjectionRaised(TypedDict):
    """A member of the circle objects to an open proposal."""

    # Id of the objection.
    objection_id: str
    # Economic account of who objects; it holds a role in the circle.
    raised_by: str
    # Salted hash of its text: 64 hex digits; the text is kept where it can be erased.
    document_hash: str
    # Reference of the salt that the hash was made with.
    salt_id: str


class DecisionTaken(TypedDict):
    """A proposal is closed: by consent only if every objection has been integrated."""

    # Id of the decision.
    decision_id: str
    # consented, rejected or withdrawn.
    outcome: str
    # Objections that the decision takes in.
    integrated_objections: list[str]
    # Economic account of who records it; it holds a role in the circle.
    decided_by: str
    # Salted hash of its text: 64 hex digits; the text is kept where it can be erased.
    document_hash: str
    # Reference of the salt that the hash was made with.
    salt_id: str


class ContributionEntered(TypedDict):
    """An account says what it has contributed to a circle."""

    # Circle that it belongs to.
    circle_id: str
    # Economic account that contributed.
    contributor: str
    # CONTRIB that it asks for; a decimal above 0 with up to 6 places.
    amount: str
    # Salted hash of its text: 64 hex digits; the text is kept where it can be erased.
    document_hash: str
    # Reference of the salt that the hash was made with.
    salt_id: str


class ContributionReviewed(TypedDict):
    """A member of the circle reviews a contribution; the last accepting review that is needed credits
    CONTRIB."""

    # Economic account of the reviewer; it holds a role in the circle and is not the contributor's.
    reviewer: str
    # accepted or rejected.
    verdict: str


class CompensationPoolCreated(TypedDict):
    """An amount that a circle means to compensate contributions with: recorded, not paid."""

    # Circle that it belongs to.
    circle_id: str
    # The pool's amount; a decimal above 0 with up to 6 places.
    amount: str
    # Currency of the amount, e.g. BRL.
    currency: str
    # Economic account of who acts for the circle: it must hold a role there; null where a service acts.
    acting_account_id: str | None


class CompensationDistributed(TypedDict):
    """A share of a pool is assigned to an account: recorded, not paid."""

    # Id of the distribution.
    distribution_id: str
    # Economic account that it is for.
    contributor: str
    # The share; a decimal above 0 with up to 6 places; all shares together are no more than the pool.
    amount: str
    # Economic account of who acts for the circle: it must hold a role there; null where a service acts.
    acting_account_id: str | None


class ReputationScored(TypedDict):
    """A score was calculated for an account: recorded beside its REPUTATION."""

    # The score; a decimal of 0 or more with up to 6 places.
    score: str
    # Code of the method and its version.
    method: str


class TokenEvent(TypedDict):
    """S3: operational, economic, risk, collections and governance events, each type with fields of its
    own."""

    # Id of the event: 32 hex digits of the hash of (topic, client, the API key's user where it has one,
    # idempotency key); the same request has the same id for ever.
    event_id: str
    # Event type; the field of that name in lower case holds what it says, all others are null.
    type: str
    # Economic account that it is about; for events without one the id of what they are about.
    account_id: str
    # Who acts; null where a service does.
    user_id: str | None
    # Application that tells it; empty for none.
    app_id: str
    # Client of the API key that sent it; clock and chain for the pipeline's own.
    client: str
    # The client's name for the request.
    idempotency_key: str
    # Way it came: api, webhook:<name>, clock (an end that time has reached), chain:<chain>.
    source: str
    # Event time: when it happened; rules judge time by it.
    at: int
    # When the intake took it in.
    recorded_at: int
    # ASSOCIATION_CREATED: an association: what members, plans, batches and circles belong to.
    association_created: AssociationCreated | None
    # MEMBER_CREATED: a member of an association, known by references alone.
    member_created: MemberCreated | None
    # PATIENT_APPROVED: a member is approved as a patient.
    patient_approved: PatientApproved | None
    # PRESCRIPTION_REGISTERED: a prescription of an approved patient: one item, up to a quantity, in a period.
    prescription_registered: PrescriptionRegistered | None
    # CULTIVATION_PLAN_CREATED: what an association means to grow.
    cultivation_plan_created: CultivationPlanCreated | None
    # INPUT_PURCHASED: something was bought for the cultivation: recorded, not posted.
    input_purchased: InputPurchased | None
    # BATCH_CREATED: a batch of a cultivation plan.
    batch_created: BatchCreated | None
    # INVENTORY_RECEIVED: an item of a batch came into stock.
    inventory_received: InventoryReceived | None
    # INVENTORY_RESERVED: part of the stock of a batch is set aside.
    inventory_reserved: InventoryReserved | None
    # INVENTORY_RELEASED: what a reservation still holds, or part of it, is free again.
    inventory_released: InventoryReleased | None
    # DISPENSATION_RECORDED: an item of a batch was given to a patient on a prescription.
    dispensation_recorded: DispensationRecorded | None
    # QUALITY_CHECK_PASSED: a batch passed its quality check and may be dispensed.
    quality_check_passed: QualityCheckPassed | None
    # QUALITY_CHECK_FAILED: a batch failed a quality check: it is blocked for ever.
    quality_check_failed: QualityCheckFailed | None
    # ACCOUNT_OPENED: an economic account; its id is the event's account_id.
    account_opened: AccountOpened | None
    # ACCOUNT_STATUS_CHANGED: An economic account becomes active, blocked or, once empty, closed for ever.
    account_status_changed: AccountStatusChanged | None
    # TOKEN_TYPE_REGISTERED: a further type of token; financial types are refused
    # (regulated_structure_missing).
    token_type_registered: TokenTypeRegistered | None
    # KYB_RECORDED: What compliance found out about the business behind an account (KYB); associations,
    # suppliers and infrastructure companies need it for credit.
    kyb_recorded: KybRecorded | None
    # CREDIT_ISSUED: units for the account; of CREDIT within its limit, and owed from then on.
    credit_issued: CreditIssued | None
    # CREDIT_REDEEMED: the account gives units up.
    credit_redeemed: CreditRedeemed | None
    # TOKEN_TRANSFERRED: Units go to another account, as far as the type's transferability allows.
    token_transferred: TokenTransferred | None
    # PURCHASE_ORDER_CREATED: an order that accounts may take shares of.
    purchase_order_created: PurchaseOrderCreated | None
    # PURCHASE_ORDER_SHARE_ISSUED: shares of an order for the account.
    purchase_order_share_issued: PurchaseOrderShareIssued | None
    # PURCHASE_ORDER_SHARE_REDEEMED: the account gives shares of an order up for what they stand for.
    purchase_order_share_redeemed: PurchaseOrderShareRedeemed | None
    # ESCROW_LOCKED: units of the account are locked for a reference; as long, it holds as much ESCROW, its
    # guarantee.
    escrow_locked: EscrowLocked | None
    # ESCROW_RELEASED: locked units go back to the account, or to the beneficiary.
    escrow_released: EscrowReleased | None
    # REPUTATION_UPDATED: the account's reputation goes up or down, never below 0.
    reputation_updated: ReputationUpdated | None
    # GOVERNANCE_RIGHT_GRANTED: a right for the account, with its weight in GOVERNANCE.
    governance_right_granted: GovernanceRightGranted | None
    # GOVERNANCE_RIGHT_REVOKED: revoked, or its time is over.
    governance_right_revoked: GovernanceRightRevoked | None
    # VOTE_CAST: the account's one vote on a proposal.
    vote_cast: VoteCast | None
    # FEE_CHARGED: a fee, to the fee pool of the token's book.
    fee_charged: FeeCharged | None
    # PAYMENT_RECEIVED: money came in for the account: it pays instalments and what is owed; what is beyond
    # becomes its CREDIT.
    payment_received: PaymentReceived | None
    # BALANCE_ADJUSTED: a correction; what is owed stays as it is.
    balance_adjusted: BalanceAdjusted | None
    # RISK_ASSESSMENT_REQUESTED: somebody wants to know the account's risk.
    risk_assessment_requested: RiskAssessmentRequested | None
    # RISK_SCORE_CALCULATED: the score of an assessment that was requested.
    risk_score_calculated: RiskScoreCalculated | None
    # CREDIT_LIMIT_GRANTED: a first or a higher limit.
    credit_limit_granted: CreditLimitGranted | None
    # CREDIT_LIMIT_REDUCED: a lower limit; where more is owed already no more is issued.
    credit_limit_reduced: CreditLimitReduced | None
    # PAYMENT_SCHEDULE_CREATED: what the account has to pay and when; the clock tells each step.
    payment_schedule_created: PaymentScheduleCreated | None
    # PAYMENT_DUE: an instalment's time has come.
    payment_due: PaymentDue | None
    # PAYMENT_LATE: it was not paid within its days of grace.
    payment_late: PaymentLate | None
    # COLLECTION_NOTICE_SENT: the notice of a late instalment.
    collection_notice_sent: CollectionNoticeSent | None
    # DEFAULT_RECORDED: a noticed instalment is given up as a default; no credit until it is paid.
    default_recorded: DefaultRecorded | None
    # POSITION_BLOCKED: nothing of a position, or of the whole account, moves.
    position_blocked: PositionBlocked | None
    # POSITION_UNBLOCKED: It may move again.
    position_unblocked: PositionUnblocked | None
    # PROVISION_CALCULATED: how much is provided for the account's risk from now on; the books get the
    # difference.
    provision_calculated: ProvisionCalculated | None
    # CIRCLE_CREATED: a circle of an association; one without parent is the association's root.
    circle_created: CircleCreated | None
    # CIRCLE_MOVED: a circle gets another parent.
    circle_moved: CircleMoved | None
    # ROLE_CREATED: a role of a circle.
    role_created: RoleCreated | None
    # ROLE_GRANTED: the parent circle gives an account a role.
    role_granted: RoleGranted | None
    # ROLE_REVOKED: the parent circle takes a role back.
    role_revoked: RoleRevoked | None
    # TENSION_RAISED: a member of a circle senses what could be better.
    tension_raised: TensionRaised | None
    # PROPOSAL_MADE: a member of a circle proposes something.
    proposal_made: ProposalMade | None
    # OBJECTION_RAISED: a member of the circle objects to an open proposal.
    objection_raised: ObjectionRaised | None
    # DECISION_TAKEN: a proposal is closed: by consent only if every objection has been integrated.
    decision_taken: DecisionTaken | None
    # CONTRIBUTION_ENTERED: an account says what it has contributed to a circle.
    contribution_entered: ContributionEntered | None
    # CONTRIBUTION_REVIEWED: a member of the circle reviews a contribution; the last accepting review that is
    # needed credits CONTRIB.
    contribution_reviewed: ContributionReviewed | None
    # COMPENSATION_POOL_CREATED: an amount that a circle means to compensate contributions with: recorded, not
    # paid.
    compensation_pool_created: CompensationPoolCreated | None
    # COMPENSATION_DISTRIBUTED: a share of a pool is assigned to an account: recorded, not paid.
    compensation_distributed: CompensationDistributed | None
    # REPUTATION_SCORED: a score was calculated for an account: recorded beside its REPUTATION.
    reputation_scored: ReputationScored | None


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

"""Events known without an ABI: token standards, wrapped native coins, S2's contracts, OpenZeppelin's own.

Sources: ERC-20, ERC-721, ERC-1155, ERC-2309, WETH9, ERC-1967; S2 ("Contract Specifications") for
ComplianceRegistry, MintGuard, ReserveRegistry and SystemGuard; docs/decisions/0009-evm-decoding.md for the
membership registry, whose events S2 leaves open. An enum is a uint8 in the ABI.
"""

from __future__ import annotations

from typing import Final

from pipeline.domain.decode.evm_abi import Event, event

ERC20: Final = (
    event("Transfer(address indexed from, address indexed to, uint256 value)"),
    event("Transfer(address from, address to, uint256 value)"),  # early tokens index nothing
    event("Approval(address indexed owner, address indexed spender, uint256 value)"),
    event("Approval(address owner, address spender, uint256 value)"),
)
ERC721: Final = (
    event("Transfer(address indexed from, address indexed to, uint256 indexed tokenId)"),
    event("Approval(address indexed owner, address indexed approved, uint256 indexed tokenId)"),
    event("ApprovalForAll(address indexed owner, address indexed operator, bool approved)"),
    event(
        "ConsecutiveTransfer(uint256 indexed fromTokenId, uint256 toTokenId, "
        "address indexed fromAddress, address indexed toAddress)"
    ),
)
# Collections older than the final standard index nothing: the log alone looks like an ERC-20's.
ERC721_UNINDEXED: Final = (
    event("Transfer(address from, address to, uint256 tokenId)"),
    event("Approval(address owner, address approved, uint256 tokenId)"),
)
ERC1155: Final = (
    event(
        "TransferSingle(address indexed operator, address indexed from, address indexed to, "
        "uint256 id, uint256 value)"
    ),
    event(
        "TransferBatch(address indexed operator, address indexed from, address indexed to, "
        "uint256[] ids, uint256[] values)"
    ),
    event("ApprovalForAll(address indexed account, address indexed operator, bool approved)"),
    event("URI(string value, uint256 indexed id)"),
)
WETH: Final = (
    event("Deposit(address indexed dst, uint256 wad)"),
    event("Withdrawal(address indexed src, uint256 wad)"),
)
OPENZEPPELIN: Final = (
    event("RoleGranted(bytes32 indexed role, address indexed account, address indexed sender)"),
    event("RoleRevoked(bytes32 indexed role, address indexed account, address indexed sender)"),
    event(
        "RoleAdminChanged(bytes32 indexed role, bytes32 indexed previousAdminRole, "
        "bytes32 indexed newAdminRole)"
    ),
    event("Upgraded(address indexed implementation)"),
    event("AdminChanged(address previousAdmin, address newAdmin)"),
    event("BeaconUpgraded(address indexed beacon)"),
    event("Initialized(uint64 version)"),  # from release 5
    event("Initialized(uint8 version)"),
    event("Paused(address account)"),
    event("Unpaused(address account)"),
    event("OwnershipTransferred(address indexed previousOwner, address indexed newOwner)"),
)
COMPLIANCE_REGISTRY: Final = (
    event(
        "CustomerWhitelisted(address indexed customer, bytes32 indexed kycId, uint8 tier, uint256 expiresAt)"
    ),
    event("CustomerBlocked(address indexed customer, bytes32 indexed kycId, string reason)"),
)
MINT_GUARD: Final = (
    event("MintApproved(address indexed operator, uint256 amount, bytes32 reasonCode, uint256 timestamp)"),
    event("MintExecuted(address indexed operator, uint256 amount, string xrplTxHash, uint256 timestamp)"),
    event("BurnRecorded(address indexed operator, uint256 amount, string xrplTxHash, uint256 timestamp)"),
)
RESERVE_REGISTRY: Final = (
    event("ReserveUpdated(bytes32 indexed assetId, uint256 amountUsd, string source, uint256 timestamp)"),
)
SYSTEM_GUARD: Final = (
    event("Paused(address indexed by, uint256 timestamp, string reason)"),
    event("Unpaused(address indexed by, uint256 timestamp)"),
)
MEMBERSHIP_REGISTRY: Final = (
    event(
        "MembershipIssued(uint256 indexed tokenId, address indexed member, bytes32 indexed kycId, "
        "bytes32 xrplNftId, uint8 tier, uint256 expiresAt)"
    ),
    event("MembershipRenewed(uint256 indexed tokenId, uint8 tier, uint256 expiresAt)"),
    event("MembershipRevoked(uint256 indexed tokenId, address indexed member, string reason)"),
    event(
        "NodeAccessGranted(uint256 indexed tokenId, address indexed member, bytes32 xrplNftId, "
        "uint8 plan, uint256 expiresAt)"
    ),
    event("NodeAccessRevoked(uint256 indexed tokenId, address indexed member, string reason)"),
)

ANY: Final = (
    *ERC20, *ERC721, *ERC1155, *WETH, *OPENZEPPELIN,
    *COMPLIANCE_REGISTRY, *MINT_GUARD, *RESERVE_REGISTRY, *SYSTEM_GUARD, *MEMBERSHIP_REGISTRY,
)  # fmt: skip

KINDS: Final[dict[str, tuple[Event, ...]]] = {
    "erc20": ERC20,
    "erc721": (*ERC721, *ERC721_UNINDEXED),
    "erc1155": ERC1155,
    "weth": (*ERC20, *WETH),
    "compliance_registry": COMPLIANCE_REGISTRY,
    "mint_guard": MINT_GUARD,
    "reserve_registry": RESERVE_REGISTRY,
    "system_guard": SYSTEM_GUARD,
    "membership_registry": (*MEMBERSHIP_REGISTRY, *ERC721),
}
"""Kinds of contracts that settings may name instead of an ABI → their events."""

TOKEN_OF_KIND: Final[dict[str, frozenset[str]]] = {
    "erc20": frozenset({"erc20"}),
    "erc721": frozenset({"erc721"}),
    "erc1155": frozenset({"erc1155"}),
    "weth": frozenset({"erc20", "weth"}),
    "membership_registry": frozenset({"erc721"}),
}
"""Which standards' transfers a contract of a kind makes; none for the others."""

// SPDX-License-Identifier: UNLICENSED
pragma solidity ^0.8.20;

import "./Control.sol";

/// S2, contract 5: memberships that XRPL NFTs stand for. S2 names no events; these follow its table
/// membership_nfts (wallet, xrpl_nft_id, tier, status, expires_at, metadata_uri) and its two endings,
/// revoked and expired.
contract MembershipNFTRegistry is Control {
    bytes32 public constant REGISTRAR_ROLE = keccak256("REGISTRAR_ROLE");

    enum Tier { Basic, Pro, Otc, Internal }
    enum Status { None, Active, Revoked, Expired }

    struct Membership {
        address wallet;
        Tier tier;
        Status status;
        uint256 expiresAt;
    }

    /// By XRPL NFTokenID (256 bits).
    mapping(bytes32 => Membership) public memberships;

    event MembershipIssued(
        address indexed wallet, bytes32 indexed xrplNftId, Tier tier, uint256 expiresAt, string metadataUri
    );
    event MembershipTierChanged(address indexed wallet, bytes32 indexed xrplNftId, Tier tier);
    event MembershipRevoked(address indexed wallet, bytes32 indexed xrplNftId, string reason);
    event MembershipExpired(address indexed wallet, bytes32 indexed xrplNftId, uint256 expiredAt);

    function initialize() public initializer {
        _grantRole(DEFAULT_ADMIN_ROLE, msg.sender);
        _grantRole(REGISTRAR_ROLE, msg.sender);
    }

    function issue(address wallet, bytes32 xrplNftId, Tier tier, uint256 expiresAt, string calldata metadataUri)
        external
        onlyRole(REGISTRAR_ROLE)
    {
        require(memberships[xrplNftId].status == Status.None, "ALREADY_ISSUED");
        memberships[xrplNftId] = Membership(wallet, tier, Status.Active, expiresAt);
        emit MembershipIssued(wallet, xrplNftId, tier, expiresAt, metadataUri);
    }

    function changeTier(bytes32 xrplNftId, Tier tier) external onlyRole(REGISTRAR_ROLE) {
        Membership storage known = _active(xrplNftId);
        known.tier = tier;
        emit MembershipTierChanged(known.wallet, xrplNftId, tier);
    }

    function revoke(bytes32 xrplNftId, string calldata reason) external onlyRole(REGISTRAR_ROLE) {
        Membership storage known = _active(xrplNftId);
        known.status = Status.Revoked;
        emit MembershipRevoked(known.wallet, xrplNftId, reason);
    }

    /// Anyone may say so once the time has passed.
    function expire(bytes32 xrplNftId) external {
        Membership storage known = _active(xrplNftId);
        require(known.expiresAt > 0 && block.timestamp > known.expiresAt, "NOT_EXPIRED");
        known.status = Status.Expired;
        emit MembershipExpired(known.wallet, xrplNftId, known.expiresAt);
    }

    function _active(bytes32 xrplNftId) private view returns (Membership storage known) {
        known = memberships[xrplNftId];
        require(known.status == Status.Active, "NOT_ACTIVE");
    }
}

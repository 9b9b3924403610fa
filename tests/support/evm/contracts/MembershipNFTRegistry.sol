// SPDX-License-Identifier: UNLICENSED
pragma solidity ^0.8.20;

import "./Control.sol";
import "./Nfts.sol";

/// S2, contract 5: memberships and node access as ERC-721 tokens that mirror XRPL NFTs. S2 leaves its events open;
/// these are the ones decided in docs/decisions/0009-evm-decoding.md.
contract MembershipNFTRegistry is Control, Erc721Core {
    bytes32 public constant REGISTRAR_ROLE = keccak256("REGISTRAR_ROLE");

    enum Tier { Basic, Pro, Otc, Internal }
    enum Plan { InfraBasic, InfraPremium }

    event MembershipIssued(
        uint256 indexed tokenId,
        address indexed member,
        bytes32 indexed kycId,
        bytes32 xrplNftId,
        Tier tier,
        uint256 expiresAt
    );
    event MembershipRenewed(uint256 indexed tokenId, Tier tier, uint256 expiresAt);
    event MembershipRevoked(uint256 indexed tokenId, address indexed member, string reason);
    event NodeAccessGranted(
        uint256 indexed tokenId, address indexed member, bytes32 xrplNftId, Plan plan, uint256 expiresAt
    );
    event NodeAccessRevoked(uint256 indexed tokenId, address indexed member, string reason);

    function initialize() public initializer {
        _grantRole(DEFAULT_ADMIN_ROLE, msg.sender);
        _grantRole(REGISTRAR_ROLE, msg.sender);
    }

    function issue(
        uint256 tokenId, address member, bytes32 kycId, bytes32 xrplNftId, Tier tier, uint256 expiresAt
    ) external onlyRole(REGISTRAR_ROLE) {
        _mint(member, tokenId);
        emit MembershipIssued(tokenId, member, kycId, xrplNftId, tier, expiresAt);
    }

    function renew(uint256 tokenId, Tier tier, uint256 expiresAt) external onlyRole(REGISTRAR_ROLE) {
        ownerOf(tokenId);
        emit MembershipRenewed(tokenId, tier, expiresAt);
    }

    function revoke(uint256 tokenId, string calldata reason) external onlyRole(REGISTRAR_ROLE) {
        emit MembershipRevoked(tokenId, ownerOf(tokenId), reason);
        _burn(tokenId);
    }

    function grantNodeAccess(uint256 tokenId, address member, bytes32 xrplNftId, Plan plan, uint256 expiresAt)
        external
        onlyRole(REGISTRAR_ROLE)
    {
        _mint(member, tokenId);
        emit NodeAccessGranted(tokenId, member, xrplNftId, plan, expiresAt);
    }

    function revokeNodeAccess(uint256 tokenId, string calldata reason) external onlyRole(REGISTRAR_ROLE) {
        emit NodeAccessRevoked(tokenId, ownerOf(tokenId), reason);
        _burn(tokenId);
    }
}

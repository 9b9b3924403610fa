// SPDX-License-Identifier: UNLICENSED
pragma solidity ^0.8.20;

import "./Control.sol";

/// S2, contract 1: who is allowed.
contract ComplianceRegistry is Control {
    bytes32 public constant COMPLIANCE_ROLE = keccak256("COMPLIANCE_ROLE");

    enum RiskTier { Unknown, Low, Medium, High, Blocked }

    struct CustomerRecord {
        bool whitelisted;
        RiskTier tier;
        bytes32 kycId;
        uint256 approvedAt;
        uint256 expiresAt;
    }

    mapping(address => CustomerRecord) public customers;
    mapping(bytes32 => address) public kycIdToAddress;

    event CustomerWhitelisted(
        address indexed customer, bytes32 indexed kycId, RiskTier tier, uint256 expiresAt
    );
    event CustomerBlocked(address indexed customer, bytes32 indexed kycId, string reason);

    function initialize() public initializer {
        _grantRole(DEFAULT_ADMIN_ROLE, msg.sender);
        _grantRole(COMPLIANCE_ROLE, msg.sender);
    }

    function whitelistCustomer(address customer, bytes32 kycId, RiskTier tier, uint256 expiresAt)
        external
        onlyRole(COMPLIANCE_ROLE)
    {
        require(tier != RiskTier.Blocked, "Use blockCustomer()");
        customers[customer] = CustomerRecord(true, tier, kycId, block.timestamp, expiresAt);
        kycIdToAddress[kycId] = customer;
        emit CustomerWhitelisted(customer, kycId, tier, expiresAt);
    }

    function blockCustomer(address customer, bytes32 kycId, string calldata reason)
        external
        onlyRole(COMPLIANCE_ROLE)
    {
        customers[customer].whitelisted = false;
        customers[customer].tier = RiskTier.Blocked;
        emit CustomerBlocked(customer, kycId, reason);
    }

    function isWhitelisted(address customer) external view returns (bool) {
        CustomerRecord memory known = customers[customer];
        bool expired = known.expiresAt > 0 && block.timestamp > known.expiresAt;
        return known.whitelisted && known.tier != RiskTier.Blocked && !expired;
    }

    function riskTierOf(address customer) external view returns (RiskTier) {
        return customers[customer].tier;
    }
}

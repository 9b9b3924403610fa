// SPDX-License-Identifier: UNLICENSED
pragma solidity ^0.8.20;

import "./Control.sol";
import "./ReserveRegistry.sol";
import "./SystemGuard.sol";

/// S2, contract 2: how much may be minted.
contract MintGuard is Control {
    bytes32 public constant OPERATOR_ROLE = keccak256("OPERATOR_ROLE");

    SystemGuard public systemGuard;
    ReserveRegistry public reserveRegistry;
    uint256 public globalCap;
    uint256 public dailyMintLimit;
    uint256 public totalNetMinted;
    uint256 public dailyMintedToday;
    uint256 public lastDayReset;

    event MintApproved(address indexed operator, uint256 amount, bytes32 reasonCode, uint256 timestamp);
    event MintExecuted(address indexed operator, uint256 amount, string xrplTxHash, uint256 timestamp);
    event BurnRecorded(address indexed operator, uint256 amount, string xrplTxHash, uint256 timestamp);

    function initialize(address _systemGuard, address _reserveRegistry, uint256 _globalCap, uint256 _dailyMintLimit)
        public
        initializer
    {
        _grantRole(DEFAULT_ADMIN_ROLE, msg.sender);
        _grantRole(OPERATOR_ROLE, msg.sender);
        systemGuard = SystemGuard(_systemGuard);
        reserveRegistry = ReserveRegistry(_reserveRegistry);
        globalCap = _globalCap;
        dailyMintLimit = _dailyMintLimit;
        lastDayReset = block.timestamp / 1 days;
    }

    function canMint(uint256 amount) public view returns (bool, string memory) {
        if (systemGuard.isPaused()) return (false, "SYSTEM_PAUSED");
        if (totalNetMinted + amount > globalCap) return (false, "EXCEEDS_GLOBAL_CAP");
        if (totalNetMinted + amount > reserveRegistry.maxAllowedSupply()) return (false, "EXCEEDS_RESERVE_CAP");
        uint256 mintedToday = (block.timestamp / 1 days == lastDayReset) ? dailyMintedToday : 0;
        if (mintedToday + amount > dailyMintLimit) return (false, "EXCEEDS_DAILY_LIMIT");
        return (true, "OK");
    }

    function requestMint(uint256 amount, bytes32 reasonCode) external onlyRole(OPERATOR_ROLE) {
        (bool allowed, string memory reason) = canMint(amount);
        require(allowed, reason);
        uint256 currentDay = block.timestamp / 1 days;
        if (currentDay != lastDayReset) {
            dailyMintedToday = 0;
            lastDayReset = currentDay;
        }
        dailyMintedToday += amount;
        emit MintApproved(msg.sender, amount, reasonCode, block.timestamp);
    }

    /// As in S2, neither the pause nor an approval is asked for here: it is the books that must notice.
    function confirmMint(uint256 amount, string calldata xrplTxHash) external onlyRole(OPERATOR_ROLE) {
        totalNetMinted += amount;
        emit MintExecuted(msg.sender, amount, xrplTxHash, block.timestamp);
    }

    function recordBurn(uint256 amount, string calldata xrplTxHash) external onlyRole(OPERATOR_ROLE) {
        require(totalNetMinted >= amount, "UNDERFLOW");
        totalNetMinted -= amount;
        emit BurnRecorded(msg.sender, amount, xrplTxHash, block.timestamp);
    }
}

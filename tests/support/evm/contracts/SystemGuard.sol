// SPDX-License-Identifier: UNLICENSED
pragma solidity ^0.8.20;

import "./Control.sol";

/// S2, contract 4: the emergency brake.
contract SystemGuard is Control {
    bytes32 public constant GUARDIAN_ROLE = keccak256("GUARDIAN_ROLE");

    bool private paused;

    event Paused(address indexed by, uint256 timestamp, string reason);
    event Unpaused(address indexed by, uint256 timestamp);

    function initialize() public initializer {
        _grantRole(DEFAULT_ADMIN_ROLE, msg.sender);
        _grantRole(GUARDIAN_ROLE, msg.sender);
    }

    function isPaused() external view returns (bool) {
        return paused;
    }

    function pause(string calldata reason) external onlyRole(GUARDIAN_ROLE) {
        require(!paused, "ALREADY_PAUSED");
        paused = true;
        emit Paused(msg.sender, block.timestamp, reason);
    }

    function unpause() external onlyRole(GUARDIAN_ROLE) {
        require(paused, "NOT_PAUSED");
        paused = false;
        emit Unpaused(msg.sender, block.timestamp);
    }
}

// SPDX-License-Identifier: UNLICENSED
pragma solidity ^0.8.20;

import "./Control.sol";

/// S2, contract 3: which reserves exist (USD, scaled by 1e6).
contract ReserveRegistry is Control {
    bytes32 public constant ORACLE_ROLE = keccak256("ORACLE_ROLE");

    struct Reserve {
        uint256 amountUsd;
        uint256 lastUpdated;
        string source;
    }

    mapping(bytes32 => Reserve) public reserves;
    bytes32[] public assetIds;

    event ReserveUpdated(bytes32 indexed assetId, uint256 amountUsd, string source, uint256 timestamp);

    function initialize() public initializer {
        _grantRole(DEFAULT_ADMIN_ROLE, msg.sender);
        _grantRole(ORACLE_ROLE, msg.sender);
    }

    function updateReserve(bytes32 assetId, uint256 amountUsd, string calldata source)
        external
        onlyRole(ORACLE_ROLE)
    {
        if (reserves[assetId].lastUpdated == 0) assetIds.push(assetId);
        reserves[assetId] = Reserve(amountUsd, block.timestamp, source);
        emit ReserveUpdated(assetId, amountUsd, source, block.timestamp);
    }

    function totalReservesUsd() public view returns (uint256 total) {
        for (uint256 i = 0; i < assetIds.length; i++) total += reserves[assetIds[i]].amountUsd;
    }

    function maxAllowedSupply() external view returns (uint256) {
        return totalReservesUsd();
    }
}

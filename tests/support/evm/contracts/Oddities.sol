// SPDX-License-Identifier: UNLICENSED
pragma solidity ^0.8.20;

/// What a decoder meets seldom.
contract Oddities {
    struct Point { uint256 x; int64[] path; }

    /// No topic tells what this is; its first topic is an address.
    event Nameless(address indexed who, uint256 value) anonymous;
    /// No topic at all.
    event Silent(uint256 value) anonymous;
    /// Indexed dynamic values: only their hashes are in the topics.
    event Hashed(string indexed label, bytes indexed payload, uint256[] indexed numbers, string shown);
    event Shaped(Point point, bytes3[2] tags, int256 signed, bool flag);
    /// The topic of ERC-20 and ERC-721, with two topics: neither of them.
    event Transfer(address indexed from, address to, uint256 value);
    /// The older libraries' form of Initialized.
    event Initialized(uint8 version);

    function anonymous_(uint256 value) external {
        emit Nameless(msg.sender, value);
        emit Silent(value);
    }

    function hashed(string calldata label, bytes calldata payload, uint256[] calldata numbers) external {
        emit Hashed(label, payload, numbers, label);
    }

    function shaped(uint256 x, int64[] calldata path, bytes3[2] calldata tags, int256 signed) external {
        emit Shaped(Point(x, path), tags, signed, signed < 0);
    }

    function unlikeTransfer(address to, uint256 value) external {
        emit Transfer(msg.sender, to, value);
    }

    function olderInitialized(uint8 version) external {
        emit Initialized(version);
    }

    /// ERC-20's Transfer topics with data that is too short to be one.
    function cutTransfer(address to) external {
        bytes32 topic = keccak256("Transfer(address,address,uint256)");
        assembly {
            mstore(0, 1)
            log3(0, 16, topic, caller(), to)
        }
    }

    /// Many logs in one transaction.
    function many(uint256 count) external {
        for (uint256 i = 0; i < count; i++) emit Silent(i);
    }

    /// Logs, then fails: none of them is left, the gas is.
    function fail(string calldata reason) external {
        emit Silent(1);
        revert(reason);
    }

    /// The inner call's logs are lost, the outer ones stay.
    function failInside() external {
        emit Silent(2);
        (bool done,) = address(this).call(abi.encodeCall(this.fail, ("inside")));
        emit Silent(done ? 3 : 4);
    }

    function burnGas() external pure {
        assembly {
            invalid()
        }
    }
}

// SPDX-License-Identifier: UNLICENSED
pragma solidity ^0.8.20;

/// ERC-721 without receivers' hooks; who mints and burns is for others to say.
abstract contract Erc721Core {
    mapping(uint256 => address) private owners;
    mapping(address => uint256) public balanceOf;
    mapping(uint256 => address) public getApproved;
    mapping(address => mapping(address => bool)) public isApprovedForAll;
    uint256 public totalSupply;

    event Transfer(address indexed from, address indexed to, uint256 indexed tokenId);
    event Approval(address indexed owner, address indexed approved, uint256 indexed tokenId);
    event ApprovalForAll(address indexed owner, address indexed operator, bool approved);

    function ownerOf(uint256 tokenId) public view returns (address) {
        require(owners[tokenId] != address(0), "NO_TOKEN");
        return owners[tokenId];
    }

    function approve(address approved, uint256 tokenId) external {
        require(ownerOf(tokenId) == msg.sender, "NOT_OWNER");
        getApproved[tokenId] = approved;
        emit Approval(msg.sender, approved, tokenId);
    }

    function setApprovalForAll(address operator, bool approved) external {
        isApprovedForAll[msg.sender][operator] = approved;
        emit ApprovalForAll(msg.sender, operator, approved);
    }

    function transferFrom(address from, address to, uint256 tokenId) external {
        require(ownerOf(tokenId) == from && to != address(0), "NOT_OWNER");
        bool allowed = from == msg.sender || getApproved[tokenId] == msg.sender || isApprovedForAll[from][msg.sender];
        require(allowed, "NOT_ALLOWED");
        _give(from, to, tokenId);
    }

    function _mint(address to, uint256 tokenId) internal {
        require(owners[tokenId] == address(0), "TAKEN");
        totalSupply++;
        _give(address(0), to, tokenId);
    }

    function _burn(uint256 tokenId) internal {
        totalSupply--;
        _give(ownerOf(tokenId), address(0), tokenId);
    }

    function _give(address from, address to, uint256 tokenId) private {
        delete getApproved[tokenId];
        if (from != address(0)) balanceOf[from]--;
        if (to != address(0)) balanceOf[to]++;
        owners[tokenId] = to;
        emit Transfer(from, to, tokenId);
    }
}

/// Anyone may mint a free id, its owner may burn it.
contract Erc721 is Erc721Core {
    function mint(address to, uint256 tokenId) external {
        _mint(to, tokenId);
    }

    function burn(uint256 tokenId) external {
        require(ownerOf(tokenId) == msg.sender, "NOT_OWNER");
        _burn(tokenId);
    }
}

/// ERC-1155 without receivers' hooks. Anyone may mint.
contract Erc1155 {
    mapping(address => mapping(uint256 => uint256)) private held;
    mapping(address => mapping(address => bool)) public isApprovedForAll;
    mapping(uint256 => uint256) public totalSupply;

    event TransferSingle(
        address indexed operator, address indexed from, address indexed to, uint256 id, uint256 value
    );
    event TransferBatch(
        address indexed operator, address indexed from, address indexed to, uint256[] ids, uint256[] values
    );
    event ApprovalForAll(address indexed account, address indexed operator, bool approved);
    event URI(string value, uint256 indexed id);

    function balanceOf(address account, uint256 id) external view returns (uint256) {
        return held[account][id];
    }

    function setApprovalForAll(address operator, bool approved) external {
        isApprovedForAll[msg.sender][operator] = approved;
        emit ApprovalForAll(msg.sender, operator, approved);
    }

    function setURI(string calldata value, uint256 id) external {
        emit URI(value, id);
    }

    function mint(address to, uint256 id, uint256 value) external {
        _move(address(0), to, id, value);
        emit TransferSingle(msg.sender, address(0), to, id, value);
    }

    function mintBatch(address to, uint256[] calldata ids, uint256[] calldata values) external {
        _moveAll(address(0), to, ids, values);
    }

    function burnBatch(uint256[] calldata ids, uint256[] calldata values) external {
        _moveAll(msg.sender, address(0), ids, values);
    }

    function safeTransferFrom(address from, address to, uint256 id, uint256 value, bytes calldata) external {
        _mayMove(from, to);
        _move(from, to, id, value);
        emit TransferSingle(msg.sender, from, to, id, value);
    }

    function safeBatchTransferFrom(
        address from,
        address to,
        uint256[] calldata ids,
        uint256[] calldata values,
        bytes calldata
    ) external {
        _mayMove(from, to);
        _moveAll(from, to, ids, values);
    }

    function _mayMove(address from, address to) private view {
        require(from == msg.sender || isApprovedForAll[from][msg.sender], "NOT_ALLOWED");
        require(to != address(0), "TO_ZERO");
    }

    function _moveAll(address from, address to, uint256[] calldata ids, uint256[] calldata values) private {
        require(ids.length == values.length, "LENGTHS");
        for (uint256 i = 0; i < ids.length; i++) _move(from, to, ids[i], values[i]);
        emit TransferBatch(msg.sender, from, to, ids, values);
    }

    function _move(address from, address to, uint256 id, uint256 value) private {
        if (from == address(0)) {
            totalSupply[id] += value;
        } else {
            require(held[from][id] >= value, "BALANCE");
            held[from][id] -= value;
        }
        if (to == address(0)) totalSupply[id] -= value;
        else held[to][id] += value;
    }
}

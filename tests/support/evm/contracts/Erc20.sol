// SPDX-License-Identifier: UNLICENSED
pragma solidity ^0.8.20;

/// ERC-20; anyone may mint, any holder may burn what is his.
contract Erc20 {
    string public name;
    string public symbol;
    uint8 public decimals;
    uint256 public totalSupply;
    mapping(address => uint256) internal held;
    mapping(address => mapping(address => uint256)) public allowance;

    event Transfer(address indexed from, address indexed to, uint256 value);
    event Approval(address indexed owner, address indexed spender, uint256 value);

    constructor(string memory _name, string memory _symbol, uint8 _decimals) {
        (name, symbol, decimals) = (_name, _symbol, _decimals);
    }

    function balanceOf(address account) public view virtual returns (uint256) {
        return held[account];
    }

    function transfer(address to, uint256 value) external returns (bool) {
        _transfer(msg.sender, to, value);
        return true;
    }

    function approve(address spender, uint256 value) external returns (bool) {
        allowance[msg.sender][spender] = value;
        emit Approval(msg.sender, spender, value);
        return true;
    }

    function transferFrom(address from, address to, uint256 value) external returns (bool) {
        require(allowance[from][msg.sender] >= value, "ALLOWANCE");
        allowance[from][msg.sender] -= value;
        _transfer(from, to, value);
        return true;
    }

    function mint(address to, uint256 value) external {
        totalSupply += value;
        _credit(to, value);
        emit Transfer(address(0), to, value);
    }

    function burn(uint256 value) external {
        _debit(msg.sender, value);
        totalSupply -= value;
        emit Transfer(msg.sender, address(0), value);
    }

    function _transfer(address from, address to, uint256 value) internal virtual {
        require(to != address(0), "TO_ZERO");
        _debit(from, value);
        _credit(to, value);
        emit Transfer(from, to, value);
    }

    function _credit(address to, uint256 value) internal virtual {
        held[to] += value;
    }

    function _debit(address from, uint256 value) internal virtual {
        require(balanceOf(from) >= value, "BALANCE");
        held[from] -= value;
    }
}

/// Takes 1 % of each transfer: the honest kind tells it in a second Transfer, the silent one does not.
contract FeeOnTransfer is Erc20 {
    bool public immutable silent;
    address public immutable collector = address(uint160(0xFEE));

    constructor(bool _silent) Erc20("Fee on transfer", "FEE", 18) {
        silent = _silent;
    }

    function _transfer(address from, address to, uint256 value) internal override {
        require(to != address(0), "TO_ZERO");
        uint256 fee = value / 100;
        _debit(from, value);
        _credit(to, value - fee);
        _credit(collector, fee);
        emit Transfer(from, to, silent ? value : value - fee);
        if (!silent) emit Transfer(from, collector, fee);
    }
}

/// Every balance grows or shrinks at once by `rebase`, without a Transfer. Balances are shares of the supply.
contract Rebasing is Erc20 {
    uint256 private constant UNIT = 1e18;
    uint256 public index = UNIT;

    constructor() Erc20("Rebasing", "REB", 18) {}

    function balanceOf(address account) public view override returns (uint256) {
        return held[account] * index / UNIT;
    }

    function rebase(uint256 numerator, uint256 denominator) external {
        index = index * numerator / denominator;
        totalSupply = totalSupply * numerator / denominator;
    }

    function _credit(address to, uint256 value) internal override {
        held[to] += value * UNIT / index;
    }

    function _debit(address from, uint256 value) internal override {
        require(balanceOf(from) >= value, "BALANCE");
        uint256 shares = (value * UNIT + index - 1) / index;
        held[from] -= shares > held[from] ? held[from] : shares;
    }
}

/// Deploys tokens and says so.
contract TokenFactory {
    address[] public tokens;

    event TokenCreated(address indexed token, address indexed creator, string name, string symbol);

    function create(string calldata name, string calldata symbol, uint8 decimals, uint256 firstMint)
        external
        returns (address)
    {
        Erc20 made = new Erc20(name, symbol, decimals);
        tokens.push(address(made));
        if (firstMint > 0) made.mint(msg.sender, firstMint); // its logs come before the factory's own
        emit TokenCreated(address(made), msg.sender, name, symbol);
        return address(made);
    }

    function count() external view returns (uint256) {
        return tokens.length;
    }
}

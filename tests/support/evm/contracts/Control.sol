// SPDX-License-Identifier: UNLICENSED
pragma solidity ^0.8.20;

/// What the control contracts share: one initialisation, roles, an implementation that can be exchanged.
/// Events as the widely used libraries emit them, so that a decoder of those reads these.
abstract contract Control {
    bytes32 public constant DEFAULT_ADMIN_ROLE = 0x00;
    /// keccak256("eip1967.proxy.implementation") - 1
    bytes32 internal constant IMPLEMENTATION_SLOT = 0x360894a13ba1a3210667c828492db98dca3e2076cc3735a920a3ca505d382bbc;

    uint64 private initializedVersion;
    mapping(bytes32 => mapping(address => bool)) private roles;
    mapping(bytes32 => bytes32) private admins;

    event Initialized(uint64 version);
    event RoleGranted(bytes32 indexed role, address indexed account, address indexed sender);
    event RoleRevoked(bytes32 indexed role, address indexed account, address indexed sender);
    event RoleAdminChanged(
        bytes32 indexed role, bytes32 indexed previousAdminRole, bytes32 indexed newAdminRole
    );
    event Upgraded(address indexed implementation);

    modifier initializer() {
        require(initializedVersion == 0, "ALREADY_INITIALIZED");
        _;
        initializedVersion = 1;
        emit Initialized(1);
    }

    modifier onlyRole(bytes32 role) {
        require(roles[role][msg.sender], "MISSING_ROLE");
        _;
    }

    function hasRole(bytes32 role, address account) public view returns (bool) {
        return roles[role][account];
    }

    function getRoleAdmin(bytes32 role) public view returns (bytes32) {
        return admins[role];
    }

    function grantRole(bytes32 role, address account) external onlyRole(admins[role]) {
        _grantRole(role, account);
    }

    function revokeRole(bytes32 role, address account) external onlyRole(admins[role]) {
        _revokeRole(role, account);
    }

    function renounceRole(bytes32 role, address callerConfirmation) external {
        require(callerConfirmation == msg.sender, "BAD_CONFIRMATION");
        _revokeRole(role, msg.sender);
    }

    function setRoleAdmin(bytes32 role, bytes32 admin) external onlyRole(DEFAULT_ADMIN_ROLE) {
        emit RoleAdminChanged(role, admins[role], admin);
        admins[role] = admin;
    }

    function upgradeToAndCall(address implementation, bytes calldata data) external onlyRole(DEFAULT_ADMIN_ROLE) {
        require(implementation.code.length > 0, "NO_CODE");
        assembly {
            sstore(IMPLEMENTATION_SLOT, implementation)
        }
        emit Upgraded(implementation);
        if (data.length > 0) {
            (bool done,) = implementation.delegatecall(data);
            require(done, "CALL_FAILED");
        }
    }

    /// Silent where nothing changes, as AccessControl is.
    function _grantRole(bytes32 role, address account) internal {
        if (roles[role][account]) return;
        roles[role][account] = true;
        emit RoleGranted(role, account, msg.sender);
    }

    function _revokeRole(bytes32 role, address account) internal {
        if (!roles[role][account]) return;
        roles[role][account] = false;
        emit RoleRevoked(role, account, msg.sender);
    }
}

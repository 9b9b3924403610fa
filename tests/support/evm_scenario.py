"""A seeded life on a chain: control contracts, tokens, approvals, failures, and reorgs of it.

Everything is drawn from one seed, and what an action needs to know of the state it asks the node, so two runs with
the same seed make the same chain, hash by hash. Many calls succeed, some fail on purpose or because the state
changed under them within the block; failed ones pay gas and leave no log.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from web3 import Web3
from web3.contract import Contract

from tests.support.anvil import GWEI
from tests.support.evm_chain import Block, Chain, Signed, keys

ACCOUNTS: Final = 10
OVER_U128: Final = 2**128
TOKEN_IDS: Final = 12  # ids of ERC-721 and ERC-1155 that are drawn
CONTROL: Final = (
    "SystemGuard",
    "ReserveRegistry",
    "ComplianceRegistry",
    "MintGuard",
    "MembershipNFTRegistry",
)
NFTS: Final = ("nft", "MembershipNFTRegistry")
FUNGIBLE: Final = ("coin", "huge", "fee", "silent_fee", "rebasing")
_REASONS: Final = ("", "audit", "sanctions list", "Prüfung läuft — bitte warten", "x" * 90)


@dataclass(frozen=True)
class World:
    """The contracts of a scenario. Control contracts stand under their own names, behind proxies.

    `coin`: ERC-20 (6 decimals); `huge`: ERC-20 with amounts over u128; `fee`, `silent_fee`: 1 % taken at each
    transfer, told in a second Transfer or not at all; `rebasing`; `weth`; `nft`: ERC-721; `multi`: ERC-1155;
    `factory`; `oddities`.
    """

    contracts: Mapping[str, Contract]
    implementations: Mapping[str, str]
    deployed: int  # number of the block after which all stand

    def __getattr__(self, name: str) -> Contract:
        try:
            return self.contracts[name]
        except KeyError:
            raise AttributeError(name) from None


def build(chain: Chain, base_fee: int = GWEI) -> World:
    """Deploy everything, in three blocks; account 0 has all roles and funds the others."""
    implementations = {name: chain.deploy(name).address for name in CONTROL}
    chain.mine(base_fee=base_fee)
    made = {}
    for name in CONTROL:
        args: tuple[Any, ...] = ()
        if name == "MintGuard":
            args = (made["SystemGuard"].address, made["ReserveRegistry"].address, 10**15, 10**12)
        begin = chain.at(name, implementations[name]).encode_abi("initialize", args=list(args))
        proxy = chain.deploy("Proxy", implementations[name], bytes.fromhex(begin[2:]))
        made[name] = chain.at(name, proxy.address)
    chain.mine(base_fee=base_fee)
    made |= {
        "coin": chain.deploy("Erc20", "Tide Coin", "TIDE", 6), "huge": chain.deploy("Erc20", "Huge", "HUGE", 18),
        "fee": chain.deploy("FeeOnTransfer", False), "silent_fee": chain.deploy("FeeOnTransfer", True),
        "rebasing": chain.deploy("Rebasing"), "weth": chain.deploy("Weth"), "nft": chain.deploy("Erc721"),
        "multi": chain.deploy("Erc1155"),
    }  # fmt: skip
    chain.mine(base_fee=base_fee)
    made |= {"factory": chain.deploy("TokenFactory"), "oddities": chain.deploy("Oddities")}
    for name in FUNGIBLE:
        for key in keys():
            chain.call(0, made[name], "mint", key.address, OVER_U128 * 9 if name == "huge" else 10**12)
    chain.mine(base_fee=base_fee)
    return World(made, implementations, chain.head)


class Scenario:
    """Draws what happens on a chain. `only`: names of ACTIONS to draw from, default all but blobs."""

    def __init__(self, chain: Chain, world: World, seed: int, only: tuple[str, ...] | None = None) -> None:
        self.chain, self.world = chain, world
        self.random = random.Random(seed)
        self.done: dict[str, int] = {}  # how often each action was drawn
        self._names = only or tuple(name for name in ACTIONS if name != "blob")

    def act(self, name: str | None = None) -> None:
        """Queue one action, drawn if not named."""
        name = name or self.random.choice(self._names)
        self.done[name] = self.done.get(name, 0) + 1
        ACTIONS[name](self)

    def block(self, transactions: int | None = None) -> Block:
        """Mine a block of so many actions (drawn: 0 to 8), at a drawn time and base fee."""
        count = self.random.choice((0, 0, 1, 1, 2, 3, 5, 8)) if transactions is None else transactions
        for _ in range(count):
            self.act()
        seconds = self.random.choice((1, 2, 12, 12, 12, 13, 60))
        return self.chain.mine(self.chain.timestamp + seconds, self.random.randrange(GWEI // 2, 30 * GWEI))

    def run(self, blocks: int) -> list[Block]:
        """Mine so many drawn blocks."""
        return [self.block() for _ in range(blocks)]

    def reorg(self, depth: int, blocks: int | None = None) -> tuple[list[Block], list[Block]]:
        """The newest `depth` blocks give way to `blocks` others (drawn: depth − 1 to depth + 2); lost, new.

        Of the transactions lost, some come again in other blocks as they were signed, the others never.
        """
        count = max(1, depth + self.random.choice((-1, 0, 1, 1, 2))) if blocks is None else blocks
        lost = self.chain.rollback(depth)
        again = [signed for block in lost for signed in block.transactions]
        made = []
        for _ in range(count):
            again = self._some_again(again)
            made.append(self.block(self.random.choice((0, 1, 2))))
        return lost, made

    def there_and_back(self, depth: int, blocks: int | None = None) -> tuple[list[Block], list[Block]]:
        """A→B→A: the newest blocks give way to others and come back, hash by hash; A, B."""
        lost, other = self.reorg(depth, blocks)
        self.chain.rollback(len(other))
        self.chain.play(lost)
        return lost, other

    def _some_again(self, lost: list[Signed]) -> list[Signed]:
        """Resend some of the lost transactions whose nonce is their sender's next; those that still wait."""
        waiting = []
        for signed in lost:
            fits = signed.nonce == self.chain.next_nonce(signed.sender)
            if fits and self.random.random() < 0.5:
                self.chain.resend(signed)
            else:
                waiting.append(signed)
        return waiting

    # What actions draw from.

    def who(self) -> int:
        return self.random.randrange(ACCOUNTS)

    def address(self) -> str:
        """Mostly an account, sometimes one that nobody has."""
        if self.random.random() < 0.1:
            return Web3.to_checksum_address(f"0x{self.random.randrange(1, 5):040x}")
        return keys()[self.who()].address

    def bytes32(self, pool: int = 5) -> bytes:
        return self.random.randrange(1, pool + 1).to_bytes(32, "big")

    def call(
        self, contract: Contract, function: str, *args: Any, sender: int | None = None, **how: Any
    ) -> None:
        """Queue a call with a drawn sender, kind and tip."""
        how.setdefault("kind", self.random.choice(("dynamic", "dynamic", "legacy", "access_list")))
        how.setdefault("tip", self.random.choice((0, 1, GWEI, 2 * GWEI + 7)))
        self.chain.call(self.who() if sender is None else sender, contract, function, *args, **how)


def _amount(scenario: Scenario, name: str) -> int:
    most = OVER_U128 * 3 if name == "huge" else 10**12
    return scenario.random.choice((0, 1, 99, 101, scenario.random.randrange(most)))


def _transfer(s: Scenario) -> None:
    name = s.random.choice(FUNGIBLE)
    s.call(s.world.contracts[name], "transfer", s.address(), _amount(s, name))


def _mint(s: Scenario) -> None:
    name = s.random.choice(FUNGIBLE)
    s.call(s.world.contracts[name], "mint", s.address(), _amount(s, name))


def _burn(s: Scenario) -> None:
    name = s.random.choice(FUNGIBLE)
    s.call(s.world.contracts[name], "burn", _amount(s, name))


def _approve_and_draw(s: Scenario) -> None:
    """An approval and a transfer by the one approved, in one block."""
    owner, spender, amount = s.who(), s.who(), s.random.randrange(10**9)
    s.call(s.world.coin, "approve", keys()[spender].address, amount, sender=owner)
    s.call(s.world.coin, "transferFrom", keys()[owner].address, s.address(), amount, sender=spender)


def _rebase(s: Scenario) -> None:
    s.call(s.world.rebasing, "rebase", s.random.randrange(90, 112), 100)


def _wrap(s: Scenario) -> None:
    wei = s.random.randrange(1, 10**18)
    if s.random.random() < 0.3:
        s.chain.send(s.who(), s.world.weth.address, value=wei)
    else:
        s.call(s.world.weth, "deposit", value=wei)


def _unwrap(s: Scenario) -> None:
    s.call(s.world.weth, "withdraw", s.random.randrange(1, 10**18))


def _move_weth(s: Scenario) -> None:
    s.call(s.world.weth, "transfer", s.address(), s.random.randrange(10**17))


def _nft(s: Scenario) -> None:
    """Give, burn, approve or mint one ERC-721 token, as its owner now can."""
    token = s.random.randrange(TOKEN_IDS)
    owner = owner_of(s.world.nft, token)
    index = next((i for i, key in enumerate(keys()) if key.address == owner), None)
    if owner is None:
        s.call(s.world.nft, "mint", s.address(), token)
    elif index is None or s.random.random() < 0.2:
        s.call(s.world.nft, "mint", s.address(), token)  # fails: it is taken
    elif s.random.random() < 0.2:
        s.call(s.world.nft, "approve", s.address(), token, sender=index)
        s.call(s.world.nft, "setApprovalForAll", s.address(), s.random.random() < 0.5, sender=index)
    elif s.random.random() < 0.2:
        s.call(s.world.nft, "burn", token, sender=index)
    else:
        s.call(s.world.nft, "transferFrom", owner, s.address(), token, sender=index)


def _multi_single(s: Scenario) -> None:
    token, amount = s.random.randrange(TOKEN_IDS), s.random.randrange(1000)
    sender = s.who()
    if s.random.random() < 0.5:
        s.call(s.world.multi, "mint", s.address(), token, amount, sender=sender)
    else:
        s.call(
            s.world.multi, "safeTransferFrom", keys()[sender].address, s.address(), token, amount, b"",
            sender=sender,
        )  # fmt: skip


def _multi_batch(s: Scenario) -> None:
    """0 to 4 ids, one of them twice now and then."""
    ids = [s.random.randrange(TOKEN_IDS) for _ in range(s.random.randrange(5))]
    amounts = [s.random.randrange(200) for _ in ids]
    sender = s.who()
    which = s.random.randrange(3)
    if which == 0:
        s.call(s.world.multi, "mintBatch", s.address(), ids, amounts, sender=sender)
    elif which == 1:
        s.call(s.world.multi, "burnBatch", ids, amounts, sender=sender)
    else:
        s.call(
            s.world.multi, "safeBatchTransferFrom", keys()[sender].address, s.address(), ids, amounts, b"",
            sender=sender,
        )  # fmt: skip


def _multi_other(s: Scenario) -> None:
    s.call(s.world.multi, "setApprovalForAll", s.address(), s.random.random() < 0.5)
    s.call(s.world.multi, "setURI", s.random.choice(_REASONS), s.random.randrange(TOKEN_IDS))


def _factory(s: Scenario) -> None:
    number = s.random.randrange(1000)
    s.call(
        s.world.factory, "create", f"Made {number}", f"M{number}", s.random.choice((0, 6, 18)),
        s.random.choice((0, 5 * 10**9)), gas=3_000_000,
    )  # fmt: skip


def _made_token(s: Scenario) -> None:
    """A transfer of a token that the factory made, if any stands now."""
    tokens = factory_tokens(s.chain, s.world)
    if tokens:
        token = s.random.choice(tokens)
        s.call(token, s.random.choice(("mint", "transfer")), s.address(), s.random.randrange(10**6))


def _role(s: Scenario) -> None:
    """Grant, often revoke again at once; now and then another admin role, or a caller who may not."""
    contract, admin = s.world.contracts[s.random.choice(CONTROL)], 0 if s.random.random() < 0.9 else s.who()
    role = Web3.keccak(
        text=s.random.choice(("COMPLIANCE_ROLE", "OPERATOR_ROLE", "GUARDIAN_ROLE", "ORACLE_ROLE"))
    )
    account = keys()[s.random.randrange(1, ACCOUNTS)].address
    s.call(contract, "grantRole", role, account, sender=admin)
    if s.random.random() < 0.5:
        s.call(contract, "revokeRole", role, account, sender=admin)
    if s.random.random() < 0.2:
        s.call(contract, "setRoleAdmin", bytes(31) + b"\1", role, sender=admin)


def _upgrade(s: Scenario) -> None:
    name = s.random.choice(CONTROL)
    s.call(s.world.contracts[name], "upgradeToAndCall", s.world.implementations[name], b"", sender=0)


def _pause(s: Scenario) -> None:
    paused = s.world.SystemGuard.functions.isPaused().call()
    if paused != (s.random.random() < 0.1):
        s.call(s.world.SystemGuard, "unpause", sender=0)
    else:
        s.call(s.world.SystemGuard, "pause", s.random.choice(_REASONS), sender=0)


def _customer(s: Scenario) -> None:
    customer, kyc = s.address(), s.bytes32()
    if s.random.random() < 0.3:
        args: tuple[Any, ...] = ("blockCustomer", customer, kyc, s.random.choice(_REASONS))
    else:  # tier 4 is refused
        args = (
            "whitelistCustomer",
            customer,
            kyc,
            s.random.randrange(5),
            s.random.choice((0, 1_800_000_000)),
        )
    s.call(s.world.ComplianceRegistry, *args, sender=0)


def _reserve(s: Scenario) -> None:
    s.call(
        s.world.ReserveRegistry,
        "updateReserve",
        s.bytes32(3),
        s.random.randrange(10**13),
        "T_BILLS",
        sender=0,
    )


def _mint_control(s: Scenario) -> None:
    """Approve, execute or record a burn; sometimes what no rule of the bank allows."""
    amount, paid = s.random.randrange(1, 10**11), f"{s.random.getrandbits(256):064X}"
    which = s.random.choice(("requestMint", "requestMint", "confirmMint", "recordBurn"))
    amount = amount // 100 if which == "recordBurn" else amount
    s.call(s.world.MintGuard, which, amount, s.bytes32() if which == "requestMint" else paid, sender=0)


def _membership(s: Scenario) -> None:
    """Tokens 0 to 5 are memberships, 6 to 11 node access; sometimes what the token's state forbids."""
    token, until = s.random.randrange(TOKEN_IDS), s.random.choice((0, s.chain.timestamp + 60))
    stands = owner_of(s.world.MembershipNFTRegistry, token) is not None
    args: tuple[Any, ...]
    if stands == (s.random.random() < 0.1):  # one in ten is refused
        args = ("issue", token, s.address(), s.bytes32(), s.bytes32(8), s.random.randrange(4), until)
        if token >= TOKEN_IDS // 2:
            args = ("grantNodeAccess", token, s.address(), s.bytes32(8), s.random.randrange(2), until)
    elif s.random.random() < 0.5:
        args = ("renew", token, s.random.randrange(4), until)
    else:
        revoke = "revoke" if token < TOKEN_IDS // 2 else "revokeNodeAccess"
        args = (revoke, token, s.random.choice(_REASONS))
    s.call(s.world.MembershipNFTRegistry, *args, sender=0)


def _odd(s: Scenario) -> None:
    function, args = s.random.choice((
        ("anonymous_", (7,)), ("hashed", ("label", b"\x01\x02", [1, 2, 3])), ("olderInitialized", (2,)),
        ("shaped", (2**255, [-1, 2], [b"abc", b"de\0"], -5)), ("unlikeTransfer", (s.address(), 5)),
        ("cutTransfer", (s.address(),)), ("many", (s.random.randrange(40),)), ("failInside", ()),
    ))  # fmt: skip
    s.call(s.world.oddities, function, *args)


def _fail(s: Scenario) -> None:
    if s.random.random() < 0.5:
        s.call(s.world.oddities, "fail", s.random.choice(_REASONS))
    else:
        s.call(s.world.oddities, "burnGas", gas=s.random.randrange(30_000, 90_000))


def _pay(s: Scenario) -> None:
    s.chain.send(s.who(), s.address(), value=s.random.randrange(10**18), gas=30_000)


def _blob(s: Scenario) -> None:
    """The first one costs a node two seconds."""
    s.chain.send(s.who(), s.address(), value=1, gas=30_000, kind="blob")


ACTIONS: Final[Mapping[str, Callable[[Scenario], None]]] = {
    "transfer": _transfer, "mint": _mint, "burn": _burn, "approve": _approve_and_draw, "rebase": _rebase,
    "wrap": _wrap, "unwrap": _unwrap, "move_weth": _move_weth, "nft": _nft, "multi_single": _multi_single,
    "multi_batch": _multi_batch, "multi_other": _multi_other, "factory": _factory, "made_token": _made_token,
    "role": _role, "upgrade": _upgrade, "pause": _pause, "customer": _customer, "reserve": _reserve,
    "mint_control": _mint_control, "membership": _membership, "odd": _odd, "fail": _fail, "pay": _pay, "blob": _blob,
}  # fmt: skip


def owner_of(nft: Contract, token: int, block: int | str = "latest") -> str | None:
    """Owner of an ERC-721 token at a block, None where it has none."""
    try:
        return nft.functions.ownerOf(token).call(block_identifier=block)
    except Exception as error:
        if "NO_TOKEN" in str(error):
            return None
        raise


def factory_tokens(chain: Chain, world: World, block: int | str = "latest") -> list[Contract]:
    """The tokens that the factory has made, oldest first."""
    count = world.factory.functions.count().call(block_identifier=block)
    return [
        chain.at("Erc20", world.factory.functions.tokens(i).call(block_identifier=block))
        for i in range(count)
    ]

"""What happens on a made-up chain: one function per kind of transaction, each on a consistent state.

An action draws who and how much, begins the transaction (fee and sequence of the payer), applies its effect
and ends it. It returns False, before it has begun anything, where the state has nothing for it to act on:
then another kind is drawn. Weights follow mainnet ledgers of 2026 (XRP payments 46 %, offers 34 %, payments
that fail 9 %, issued currencies 5 %, NFTs 3 %), with more of issued currencies, MPT and escrows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tests.bench.chain_state import (
    Account,
    Entry,
    Holding,
    Issuance,
    Nft,
    Offer,
    keylet,
)
from tests.bench.chain_world import (
    World,
    available_of,
    change_held,
    funds_for,
    give_nft,
    open_line,
    payment_to,
    place_offer,
    remove_offer,
    take_nft,
    take_offer,
)

PAGE_SIZE: Final = 32
"""NFTs that one page holds; nobody owns more here, so that each owner has one page."""

DRAWS: Final = 4
"""Kinds drawn before a transaction becomes an XRP payment for lack of anything to act on."""

IMMEDIATE_OR_CANCEL: Final = 0x0002_0000


def fund(world: World, account: Account) -> None:
    """The genesis account creates an account."""
    drops = world.rng.randrange(10_000, 50_000) * 1_000_000 + world.rng.randrange(1_000_000)
    account.sequence = world.ledger_index
    change, fields = world.begin(world.genesis, "Payment", payment_to(account, str(drops)))
    change.create(account.root)
    change.pay(world.genesis, -drops)
    change.pay(account, drops)
    world.end(change, fields, delivered_amount=str(drops))


def pay_xrp(world: World) -> bool:
    payer, payee = world.anyone(), world.anyone()
    if payer is payee or not payer.spendable:
        payer = world.genesis
    drops = world.upto(payer.spendable // 100 + 1)
    change, fields = world.begin(payer, "Payment", payment_to(payee, str(drops)))
    change.pay(payer, -drops)
    change.pay(payee, drops)
    return world.end(change, fields, delivered_amount=str(drops))


def fail_payment(world: World) -> bool:
    """Only the fee moves."""
    payer, payee = world.anyone(), world.anyone()
    if payer is payee or not payer.spendable:
        return False
    currency = world.rng.choice(world.currencies)
    result, amount = world.rng.choice(
        (
            ("tecPATH_DRY", currency.amount(world.upto(10**9))),
            ("tecPATH_DRY", currency.amount(world.upto(10**9))),
            ("tecUNFUNDED_PAYMENT", str(payer.balance + world.upto(10**9))),
        )
    )
    change, fields = world.begin(payer, "Payment", payment_to(payee, amount))
    return world.end(change, fields, result)


def trust(world: World) -> bool:
    holder, currency = world.anyone(), world.rng.choice(world.currencies)
    if holder is currency.issuer or currency in holder.lines or not holder.spendable:
        return False
    limit = 10 ** (currency.scale + world.rng.randrange(6, 9))
    change, fields = world.begin(holder, "TrustSet", {"LimitAmount": currency.amount(limit)})
    open_line(change, holder, currency, limit)
    change.thread(currency.issuer.root)
    return world.end(change, fields)


def pay_issued(world: World) -> bool:
    """Issue, pay from holder to holder, or redeem."""
    currency = world.rng.choice(world.currencies)
    line, other = currency.lines.pick(world.rng), currency.lines.pick(world.rng)
    if line is None or other is None or not line.holder.spendable:
        return False
    chance = world.rng.random()
    if line.held == 0 or chance < 0.2:
        payer, payee, units = currency.issuer, line.holder, world.upto(10**9)
    elif other is line or chance < 0.35:
        payer, payee, units = line.holder, currency.issuer, world.upto(line.held)
    else:
        payer, payee, units = line.holder, other.holder, world.upto(line.held)
    if not payer.spendable:
        return False
    amount = currency.amount(units)
    change, fields = world.begin(payer, "Payment", payment_to(payee, amount))
    if payer is not currency.issuer:
        change_held(change, payer.lines[currency], -units)
    if payee is not currency.issuer:
        change_held(change, payee.lines[currency], units)
    return world.end(change, fields, delivered_amount=amount)


def offer(world: World) -> bool:
    """Place an offer; in a third of the cases first take what a resting one gives, in part or whole."""
    currency, gives_issued = world.rng.choice(world.currencies), world.rng.random() < 0.5
    owner = world.anyone()
    if gives_issued and world.rng.random() < 0.8:
        line = currency.lines.pick(world.rng)
        owner = line.holder if line else owner
    price, units = world.rng.randrange(20, 40), world.upto(10**6)
    if owner is currency.issuer or not funds_for(owner, currency, gives_issued, price):
        return False
    units = min(units, funds_for(owner, currency, gives_issued, price))
    resting = currency.offers[not gives_issued].pick(world.rng) if world.rng.random() < 0.33 else None
    taken = 0
    if resting and resting.owner is not owner:
        price = resting.price
        taken = min(units, available_of(resting), funds_for(owner, currency, gives_issued, price))
    new = Offer(owner, currency, gives_issued, price, units)
    rests = not taken or world.rng.random() < 0.5
    flags = 0 if rests else IMMEDIATE_OR_CANCEL
    change, fields = world.begin(owner, "OfferCreate", {"Flags": flags} | new.sides())
    if resting and taken:
        take_offer(world, change, resting, owner, taken)
        new.units -= taken
    if new.units and rests:
        place_offer(world, change, new)
    return world.end(change, fields)


def cancel_offer(world: World) -> bool:
    resting = world.offers.pick(world.rng)
    if resting is None or not resting.owner.spendable:
        return False
    assert resting.entry is not None
    named = {"OfferSequence": resting.entry.fields["Sequence"]}
    change, fields = world.begin(resting.owner, "OfferCancel", named)
    remove_offer(world, change, resting)
    return world.end(change, fields)


def mint(world: World) -> bool:
    owner = world.anyone()
    if len(owner.nfts) >= PAGE_SIZE or not owner.spendable:
        return False
    taxon, uri = world.rng.randrange(1000), world.rng.randbytes(20).hex().upper()
    tag = {"Flags": 8, "NFTokenTaxon": taxon, "URI": uri}
    if not owner.minted:
        owner.first_nft = owner.sequence
    change, fields = world.begin(owner, "NFTokenMint", tag)
    sequence = owner.first_nft + owner.minted
    scrambled = taxon ^ (384_160_001 * sequence + 2459) & 0xFFFF_FFFF
    nft = Nft(f"00080000{owner.id.hex().upper()}{scrambled:08X}{sequence:08X}", owner, uri)
    owner.minted += 1
    change.put(owner.root, FirstNFTokenSequence=owner.first_nft, MintedNFTokens=owner.minted)
    give_nft(change, nft, owner)
    world.nfts.add(nft)
    return world.end(change, fields)


def sell_nft(world: World) -> bool:
    nft = world.nfts.pick(world.rng)
    if nft is None or not nft.owner.spendable:
        return False
    nft.price = world.upto(50_000_000)
    terms = {"Amount": str(nft.price), "Flags": 1, "NFTokenID": nft.nft_id}
    change, fields = world.begin(nft.owner, "NFTokenCreateOffer", dict(terms))
    index = keylet("q", nft.owner.id, change.sequence.to_bytes(4, "big"))
    nft.offer = Entry("NFTokenOffer", index, terms | {"Owner": nft.owner.address})
    nft.offer.fields |= {"NFTokenOfferNode": "0", "OwnerNode": "0"}
    root = keylet("i", bytes.fromhex(nft.nft_id))
    shown = {"Flags": 2, "NFTokenID": nft.nft_id, "RootIndex": root}
    nft.directory = Entry("DirectoryNode", root, shown)
    change.create(nft.offer)
    change.create(nft.directory)
    change.own(nft.owner)
    world.nfts.remove(nft)
    world.on_sale.add(nft)
    return world.end(change, fields)


def buy_nft(world: World) -> bool:
    nft, buyer = world.on_sale.pick(world.rng), world.anyone()
    if nft is None or nft.owner is buyer or buyer.spendable < nft.price or len(buyer.nfts) >= PAGE_SIZE:
        return False
    assert nft.offer is not None and nft.directory is not None
    change, fields = world.begin(buyer, "NFTokenAcceptOffer", {"NFTokenSellOffer": nft.offer.index})
    change.delete(nft.offer)
    change.delete(nft.directory)
    change.disown(nft.owner)
    change.pay(buyer, -nft.price)
    change.pay(nft.owner, nft.price)
    take_nft(change, nft)
    give_nft(change, nft, buyer)
    world.on_sale.remove(nft)
    world.nfts.add(nft)
    return world.end(change, fields)


def create_issuance(world: World) -> bool:
    """One issuance for every 20 accounts, each by another account."""
    if len(world.issuances) >= max(1, len(world.accounts) // 20):
        return False
    issuer = world.accounts[len(world.issuances)]
    terms = {"AssetScale": 2, "Flags": 40, "MaximumAmount": "9000000000000000000"}
    change, fields = world.begin(issuer, "MPTokenIssuanceCreate", dict(terms))
    issuance_id = f"{change.sequence:08X}{issuer.id.hex().upper()}"
    shown = terms | {"Issuer": issuer.address, "OutstandingAmount": "0", "Sequence": change.sequence}
    entry = Entry("MPTokenIssuance", keylet("~", bytes.fromhex(issuance_id)), shown | {"OwnerNode": "0"})
    change.create(entry)
    change.own(issuer)
    world.issuances.append(Issuance(issuer, issuance_id, entry))
    return world.end(change, fields, mpt_issuance_id=issuance_id)


def authorize(world: World) -> bool:
    if not world.issuances:
        return False
    holder, issuance = world.anyone(), world.rng.choice(world.issuances)
    if holder is issuance.issuer or issuance.issuance_id in holder.tokens or not holder.spendable:
        return False
    named = {"MPTokenIssuanceID": issuance.issuance_id}
    change, fields = world.begin(holder, "MPTokenAuthorize", dict(named))
    index = keylet("t", bytes.fromhex(issuance.entry.index), holder.id)
    shown = named | {"Account": holder.address, "Flags": 0, "OwnerNode": "0"}
    holding = Holding(holder, issuance, Entry("MPToken", index, shown))
    change.create(holding.entry)
    change.own(holder)
    holder.tokens[issuance.issuance_id] = holding
    issuance.holdings.add(holding)
    return world.end(change, fields)


def pay_mpt(world: World) -> bool:
    """Issue, pay from holder to holder, or redeem."""
    issuance = world.rng.choice(world.issuances) if world.issuances else None
    holding = issuance.holdings.pick(world.rng) if issuance else None
    other = issuance.holdings.pick(world.rng) if issuance else None
    if issuance is None or holding is None or other is None:
        return False
    issues = holding.amount == 0 or world.rng.random() < 0.2
    payer = issuance.issuer if issues else holding.holder
    redeems = not issues and (other is holding or world.rng.random() < 0.1)
    payee = holding.holder if issues else issuance.issuer if redeems else other.holder
    if not payer.spendable:
        return False
    value = world.upto(10**9) if issues else world.upto(holding.amount)
    amount = {"mpt_issuance_id": issuance.issuance_id, "value": str(value)}
    change, fields = world.begin(payer, "Payment", payment_to(payee, amount))
    for account, units in ((payer, -value), (payee, value)):
        if account is issuance.issuer:
            issuance.outstanding -= units
            change.put(issuance.entry, OutstandingAmount=str(issuance.outstanding))
        else:
            held = account.tokens[issuance.issuance_id]
            held.amount += units
            change.put(held.entry, MPTAmount=str(held.amount) if held.amount else None)
    return world.end(change, fields, delivered_amount=amount)


def lock_escrow(world: World) -> bool:
    payer, payee = world.anyone(), world.anyone()
    if payer is payee or not payer.spendable:
        return False
    drops = world.upto(payer.spendable // 100 + 1)
    terms = {"Amount": str(drops), "Destination": payee.address, "FinishAfter": world.close_time + 40}
    change, fields = world.begin(payer, "EscrowCreate", dict(terms))
    index = keylet("u", payer.id, change.sequence.to_bytes(4, "big"))
    shown = {"Account": payer.address, "DestinationNode": "0", "Flags": 0, "OwnerNode": "0"}
    entry = Entry("Escrow", index, terms | shown | {"Sequence": change.sequence})
    change.create(entry)
    change.pay(payer, -drops)
    change.own(payer)
    change.own(payee, 0)
    change.thread(payee.root)
    world.escrows.append((payer, payee, drops, world.close_time + 40, entry))
    return world.end(change, fields)


def finish_escrow(world: World) -> bool:
    """The oldest escrow, by its owner, once it is ripe."""
    if not world.escrows or world.escrows[0][3] >= world.close_time or not world.escrows[0][0].spendable:
        return False
    payer, payee, drops, _, entry = world.escrows.popleft()
    named = {"OfferSequence": entry.fields["Sequence"], "Owner": payer.address}
    change, fields = world.begin(payer, "EscrowFinish", named)
    change.delete(entry)
    change.disown(payer)
    change.disown(payee, 0)
    change.pay(payee, drops)
    return world.end(change, fields)


def set_account(world: World) -> bool:
    account = world.anyone()
    if not account.spendable:
        return False
    domain = world.rng.randbytes(16).hex().upper()
    change, fields = world.begin(account, "AccountSet", {"Domain": domain})
    change.put(account.root, Domain=domain)
    return world.end(change, fields)


ACTIONS: Final[tuple[tuple[int, Callable[[World], bool]], ...]] = (
    (360, pay_xrp),
    (230, offer),
    (70, cancel_offer),
    (80, fail_payment),
    (110, pay_issued),
    (20, trust),
    (20, mint),
    (15, sell_nft),
    (10, buy_nft),
    (4, create_issuance),
    (12, authorize),
    (30, pay_mpt),
    (12, lock_escrow),
    (12, finish_escrow),
    (15, set_account),
)
"""Weight and action. What has nothing to act on gives way to another draw, in the end to an XRP payment."""

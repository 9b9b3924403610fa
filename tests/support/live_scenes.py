"""Scenes for a live chain: what people do on it, one table of them, and how a play is put together.

A scene submits a few transactions; whoever plays it closes the ledgers. What a scene needs (an offer to take, a
check to cash) it finds in the state that the driver has folded; where there is none, it makes one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Any, Final

from xrpl.core.addresscodec import decode_classic_address

from tests.support.live_chain import CAST, XRP, LiveChain
from tests.support.replay import Json

FAR_S: Final = 5_000_000
HOLDERS: Final = CAST[2:]
GOLD: Final = "474F4C44000000000000000000000000000000AA"
CURRENCIES: Final = {"USD": "issuer", "EUR": "gateway", GOLD: "gateway"}
DEFAULT_RIPPLE, ALLOW_CLAWBACK, ALLOW_LOCKING = 8, 16, 17  # AccountSet's asf…
PARTIAL_PAYMENT, SELL_NFT, TRANSFERABLE, BURNABLE = 0x0002_0000, 1, 8, 1
MPT_FLAGS: Final = 0x02 | 0x08 | 0x10 | 0x20 | 0x40  # can lock, escrow, trade, transfer, clawback
MPT_LOCK, MPT_UNLOCK = 1, 2
TWO_ASSETS: Final = 0x0010_0000
NO_ONE: Final = "rrrrrrrrrrrrrrrrrrrrBZbvji"


def money(chain: LiveChain, currency: str, value: object) -> Json:
    """An amount of an issued currency."""
    return {"currency": currency, "issuer": chain.address(CURRENCIES[currency]), "value": str(value)}


def _odd(chain: LiveChain, most: int = 900) -> str:
    """A value with as many digits as the ledger keeps."""
    return f"{chain.random.randint(1, most)}.{chain.random.randint(1, 10**11):011d}"


async def cast(chain: LiveChain) -> None:
    """Everybody gets XRP, issuers let their currencies ripple, holders trust and are paid: five ledgers."""
    for name in CAST:
        await chain.submit(
            "genesis", "Payment", Destination=chain.address(name), Amount=str(20_000 * XRP + len(name))
        )
    await chain.close()
    await chain.submit("issuer", "AccountSet", SetFlag=ALLOW_CLAWBACK)
    await chain.submit("gateway", "AccountSet", SetFlag=ALLOW_LOCKING)
    await chain.close()
    for name in ("issuer", "gateway"):
        await chain.submit(name, "AccountSet", SetFlag=DEFAULT_RIPPLE, Domain="6578616d706c65")
    await chain.close()
    for name in HOLDERS:
        for currency in CURRENCIES:
            await chain.submit(name, "TrustSet", LimitAmount=money(chain, currency, 10**9))
    await chain.close()
    for name in HOLDERS:
        for currency, issuer in CURRENCIES.items():
            await chain.submit(
                issuer,
                "Payment",
                Destination=chain.address(name),
                Amount=money(chain, currency, _odd(chain, 90_000)),
            )
    await chain.close()


async def pay(chain: LiveChain) -> None:
    """XRP, and an issued currency from holder to holder through its issuer."""
    who = chain.some()
    to = chain.address(chain.some(but=who))
    await chain.submit(who, "Payment", Destination=to, Amount=str(chain.random.randint(1, 9 * XRP)))
    currency = chain.random.choice(list(CURRENCIES))
    amount = money(chain, currency, _odd(chain))
    await chain.submit(who, "Payment", Destination=to, Amount=amount, SendMax=money(chain, currency, 1000))


async def trust_each_other(chain: LiveChain) -> None:
    """A line between two holders, whose balance changes its sign as they pay to and fro."""
    who = chain.some()
    other = chain.some(but=who)
    limit = {"currency": "IOU", "value": "1000000"}
    await chain.submit(who, "TrustSet", LimitAmount={**limit, "issuer": chain.address(other)})
    await chain.submit(other, "TrustSet", LimitAmount={**limit, "issuer": chain.address(who)})
    await chain.close()
    for payer, payee in ((who, other), (other, who), (other, who)):
        owed = {"currency": "IOU", "issuer": chain.address(payee), "value": _odd(chain, 500)}
        await chain.submit(payer, "Payment", Destination=chain.address(payee), Amount=owed)
    await chain.close()


async def trade(chain: LiveChain) -> None:
    """Offers that stand on both sides of XRP, then one from currency to currency: bridged through XRP."""
    maker, other = chain.some(), chain.some()
    rate = chain.random.randint(1, 9)
    await chain.submit(maker, "OfferCreate", TakerGets=money(chain, GOLD, 90), TakerPays=str(90 * rate * XRP))
    await chain.submit(
        other, "OfferCreate", TakerGets=str(95 * rate * XRP), TakerPays=money(chain, "USD", 95)
    )
    await chain.close()
    taker = chain.some(but=maker)
    units = chain.random.randint(1, 120)
    await chain.submit(
        taker,
        "OfferCreate",
        TakerGets=money(chain, "USD", f"{units}.000000007"),
        TakerPays=money(chain, GOLD, units * 0.75),
    )
    await chain.submit(taker, "OfferCreate", TakerGets=money(chain, "EUR", 5), TakerPays=str(XRP // 3))


async def exchange(chain: LiveChain) -> None:
    """A payment that pays in XRP and delivers a currency through offers and pools, part of it if need be."""
    who = chain.some()
    await chain.submit(
        who, "Payment", Destination=chain.address(chain.some()), Amount=money(chain, "USD", _odd(chain, 50)),
        SendMax=str(chain.random.randint(1, 400) * XRP), Flags=PARTIAL_PAYMENT,
    )  # fmt: skip


async def cancel_offer(chain: LiveChain) -> None:
    found = chain.any_entry("Offer")
    if found and chain.is_ours(found[1]["Account"]):
        await chain.submit(found[1]["Account"], "OfferCancel", OfferSequence=found[1]["Sequence"])


async def mint_nfts(chain: LiveChain) -> None:
    who = chain.some()
    for number in range(chain.random.randint(1, 4)):
        await chain.submit(
            who, "NFTokenMint", NFTokenTaxon=chain.random.randint(0, 3), Flags=TRANSFERABLE | BURNABLE,
            TransferFee=chain.random.choice([0, 1000]), **({"URI": f"{number:02X}AB"} if number else {}),
        )  # fmt: skip


async def sell_nft(chain: LiveChain) -> None:
    """An offer to sell, taken in the next ledger; sometimes an offer to buy instead."""
    held = list(chain.nfts())
    if not held:
        await mint_nfts(chain)
        return
    owner, nft = chain.random.choice(held)
    buyer = chain.some(but=owner)
    price: Any = str(chain.random.randint(0, 5 * XRP))
    if chain.random.random() < 0.3:
        await chain.submit(
            buyer, "NFTokenCreateOffer", NFTokenID=nft, Owner=owner, Amount=money(chain, "USD", 7)
        )
        accepts, name = owner, "NFTokenBuyOffer"
    else:
        await chain.submit(owner, "NFTokenCreateOffer", NFTokenID=nft, Amount=price, Flags=SELL_NFT)
        accepts, name = buyer, "NFTokenSellOffer"
    await chain.close()
    made = [index for index, offer in chain.entries("NFTokenOffer") if offer["NFTokenID"] == nft]
    if made:  # it may have been burnt meanwhile
        await chain.submit(accepts, "NFTokenAcceptOffer", **{name: chain.random.choice(made)})


async def burn_nft(chain: LiveChain) -> None:
    held = list(chain.nfts())
    if held:
        owner, nft = chain.random.choice(held)
        await chain.submit(owner, "NFTokenBurn", NFTokenID=nft)


async def issue_mpt(chain: LiveChain) -> None:
    """An issuance, its first holders, and what they get."""
    await chain.submit(
        "issuer", "MPTokenIssuanceCreate", Flags=MPT_FLAGS, MaximumAmount=str(2**63 - 1), AssetScale=2
    )
    await chain.close()
    issuance = mpts(chain)[-1]
    holders = chain.random.sample(HOLDERS, 2)
    for name in holders:
        await chain.submit(name, "MPTokenAuthorize", MPTokenIssuanceID=issuance)
    await chain.close()
    for name in holders:
        units = {"mpt_issuance_id": issuance, "value": str(chain.random.randint(1, 10**15))}
        await chain.submit("issuer", "Payment", Destination=chain.address(name), Amount=units)


def mpts(chain: LiveChain) -> list[str]:
    """Issuance ids of ours, the oldest first."""
    return sorted(
        f"{entry['Sequence']:08X}{decode_classic_address(entry['Issuer']).hex().upper()}"
        for _, entry in chain.entries("MPTokenIssuance")
        if chain.is_ours(entry["Issuer"])
    )


async def move_mpt(chain: LiveChain) -> None:
    """Holder to holder, to the issuer, back by clawback; a holder locked and unlocked; MPT in escrow."""
    found = [
        entry
        for _, entry in chain.entries("MPToken")
        if int(entry.get("MPTAmount", 0)) > 9 and entry["MPTokenIssuanceID"] in mpts(chain)
    ]
    if not found:
        await issue_mpt(chain)
        return
    held = chain.random.choice(found)
    issuance, holder = held["MPTokenIssuanceID"], held["Account"]
    part = {"mpt_issuance_id": issuance, "value": str(int(held["MPTAmount"]) // 7 + 1)}
    what = chain.random.choice(["pay", "return", "claw", "lock", "escrow"])
    if what == "pay":
        await chain.submit(holder, "Payment", Destination=chain.address(chain.some(but=holder)), Amount=part)
    elif what == "return":
        await chain.submit(holder, "Payment", Destination=chain.address("issuer"), Amount=part)
    elif what == "claw":
        await chain.submit("issuer", "Clawback", Amount=part, Holder=holder)
    elif what == "lock":
        flag = chain.random.choice([MPT_LOCK, MPT_UNLOCK])
        await chain.submit(
            "issuer", "MPTokenIssuanceSet", MPTokenIssuanceID=issuance, Holder=holder, Flags=flag
        )
    else:
        await put_in_escrow(chain, holder, part)


async def pool(chain: LiveChain) -> None:
    """An AMM: made once, then deposits, withdrawals, swaps, votes."""
    pair = {
        "Asset": {"currency": "XRP"},
        "Asset2": {k: v for k, v in money(chain, "EUR", 0).items() if k != "value"},
    }
    if not chain.entries("AMM"):
        await chain.submit(
            "ada", "AMMCreate", Amount=str(500 * XRP), Amount2=money(chain, "EUR", 2500), TradingFee=500
        )
        return
    who = chain.some()
    what = chain.random.choice(["deposit", "withdraw", "swap", "vote", "swap"])
    if what == "deposit":
        both = {
            "Amount": str(chain.random.randint(1, 50) * XRP),
            "Amount2": money(chain, "EUR", _odd(chain, 300)),
        }
        await chain.submit(who, "AMMDeposit", **pair, **both, Flags=TWO_ASSETS)
    elif what == "withdraw":
        both = {
            "Amount": str(chain.random.randint(1, 9) * XRP),
            "Amount2": money(chain, "EUR", _odd(chain, 40)),
        }
        await chain.submit(who, "AMMWithdraw", **pair, **both, Flags=TWO_ASSETS)
    elif what == "vote":
        await chain.submit(who, "AMMVote", **pair, TradingFee=chain.random.randint(0, 1000))
    else:
        await chain.submit(
            who, "Payment", Destination=chain.address(who), Amount=money(chain, "EUR", _odd(chain, 40)),
            SendMax=str(90 * XRP), Flags=PARTIAL_PAYMENT,
        )  # fmt: skip


def _preimage(chain: LiveChain) -> tuple[str, str]:
    """(condition, fulfilment) of a PREIMAGE-SHA-256."""
    secret = chain.random.randbytes(32)
    return f"A0258020{sha256(secret).hexdigest().upper()}810120", f"A0228020{secret.hex().upper()}"


async def put_in_escrow(chain: LiveChain, who: str, amount: Any) -> None:
    """Escrows with a condition are finished at once, others wait until they may be cancelled."""
    now = chain.ledgers[-1]["ledger"]["close_time"]
    condition, fulfilment = _preimage(chain)
    to = chain.address(chain.some(but=who))
    if chain.random.random() < 0.5:
        result = await chain.submit(
            who, "EscrowCreate", Destination=to, Amount=amount, Condition=condition, CancelAfter=now + FAR_S
        )
        before = set(chain.made_by)
        await chain.close()
        made = [i for i, _ in chain.entries("Escrow") if i not in before]
        if result == "tesSUCCESS" and made:
            await chain.submit(
                chain.some(), "EscrowFinish", Owner=chain.address(who), OfferSequence=chain.made_by[made[0]],
                Condition=condition, Fulfillment=fulfilment,
            )  # fmt: skip
    else:
        times = {"FinishAfter": now + 1, "CancelAfter": now + chain.random.choice([3, FAR_S])}
        await chain.submit(who, "EscrowCreate", Destination=to, Amount=amount, **times)


async def escrow(chain: LiveChain) -> None:
    """XRP or a currency; and one that stands there finished or cancelled, if its time has come."""
    who = chain.some()
    await put_in_escrow(
        chain, who, chain.random.choice([str(chain.random.randint(1, 90 * XRP)), money(chain, "EUR", 12.5)])
    )
    found = chain.any_entry("Escrow")
    if found:
        index, entry = found
        kind = chain.random.choice(["EscrowFinish", "EscrowCancel"])
        await chain.submit(chain.some(), kind, Owner=entry["Account"], OfferSequence=chain.made_by[index])


async def channel(chain: LiveChain) -> None:
    """A payment channel: made, funded, claimed from by its owner."""
    found = chain.any_entry("PayChannel")
    if found is None or chain.random.random() < 0.3:
        who = chain.some()
        await chain.submit(
            who, "PaymentChannelCreate", Destination=chain.address(chain.some(but=who)), Amount=str(80 * XRP),
            SettleDelay=5, PublicKey=chain.wallet(who).public_key,
        )  # fmt: skip
        return
    index, entry = found
    if chain.random.random() < 0.4:
        await chain.submit(entry["Account"], "PaymentChannelFund", Channel=index, Amount=str(3 * XRP + 1))
        return
    paid = min(int(entry["Amount"]), int(entry.get("Balance", 0)) + chain.random.randint(1, 20 * XRP))
    await chain.submit(
        entry["Account"], "PaymentChannelClaim", Channel=index, Balance=str(paid), Amount=str(paid)
    )


async def check(chain: LiveChain) -> None:
    """A check: written, then cashed or torn up."""
    found = chain.any_entry("Check")
    if found is None or chain.random.random() < 0.5:
        who = chain.some()
        most = chain.random.choice([str(3 * XRP), money(chain, "USD", _odd(chain, 60))])
        await chain.submit(who, "CheckCreate", Destination=chain.address(chain.some(but=who)), SendMax=most)
        return
    index, entry = found
    if chain.random.random() < 0.3:
        await chain.submit(entry["Account"], "CheckCancel", CheckID=index)
    else:
        await chain.submit(entry["Destination"], "CheckCash", CheckID=index, Amount=entry["SendMax"])


async def ticket(chain: LiveChain) -> None:
    """Tickets, and a payment by one of them."""
    found = chain.any_entry("Ticket")
    if found is None:
        await chain.submit(chain.some(), "TicketCreate", TicketCount=chain.random.randint(1, 3))
        return
    entry = found[1]
    to = chain.address(chain.some(but=entry["Account"]))
    await chain.submit(
        entry["Account"], "Payment", Destination=to, Amount="77", Sequence=0,
        TicketSequence=entry["TicketSequence"], Memos=[{"Memo": {"MemoData": "7469636B6574"}}],
    )  # fmt: skip


async def claw_back(chain: LiveChain) -> None:
    """The issuer takes some of its currency back: the issuer named in the amount is the holder."""
    holder = chain.address(chain.some())
    await chain.submit(
        "issuer", "Clawback", Amount={"currency": "USD", "issuer": holder, "value": _odd(chain, 20)}
    )


async def fail(chain: LiveChain) -> None:
    """Transactions that are charged and do nothing (tec)."""
    who = chain.some()
    poor = {"Destination": NO_ONE, "Amount": "1"}
    much = {"Destination": chain.address(chain.some(but=who)), "Amount": str(10**14)}
    dry = {"Destination": chain.address("issuer"), "Amount": money(chain, "EUR", 10**12)}
    for fields in chain.random.sample([poor, much, dry], 2):
        await chain.submit(who, "Payment", **fields)
    await chain.submit(who, "NFTokenBurn", NFTokenID=f"{chain.random.getrandbits(256):064X}")


SCENES: Final[dict[str, tuple[Callable[[LiveChain], Awaitable[None]], int]]] = {
    "pay": (pay, 6),
    "trust_each_other": (trust_each_other, 2),
    "trade": (trade, 4),
    "exchange": (exchange, 2),
    "cancel_offer": (cancel_offer, 1),
    "mint_nfts": (mint_nfts, 2),
    "sell_nft": (sell_nft, 5),
    "burn_nft": (burn_nft, 2),
    "issue_mpt": (issue_mpt, 1),
    "move_mpt": (move_mpt, 6),
    "pool": (pool, 5),
    "escrow": (escrow, 4),
    "channel": (channel, 4),
    "check": (check, 4),
    "ticket": (ticket, 2),
    "claw_back": (claw_back, 1),
    "fail": (fail, 2),
}
"""Name → (scene, weight)."""


async def play(chain: LiveChain, ledgers: int) -> None:
    """Scenes until about so many ledgers have closed: each scene once, then by weight; now and then an empty
    ledger."""
    until = len(chain.ledgers) + ledgers
    due = list(SCENES)
    chain.random.shuffle(due)
    weights = [weight for _, weight in SCENES.values()]
    while len(chain.ledgers) < until:
        names = [due.pop()] if due else []
        names += chain.random.choices(list(SCENES), weights, k=chain.random.randint(1, 4))
        for name in names:
            await SCENES[name][0](chain)
        await chain.close(chain.random.choice([1, 1, 1, 1, 3]))

"""`tidebook books`: the off-chain books, for operators. Parses and prints; `books_command` does the work.

An account is written OWNER or TYPE:OWNER (user by default: alice, merchant:shop-7). Amounts are whole units
of the asset (cents, wei, …). Times are ISO 8601 (UTC where no zone is given) or milliseconds since 1970.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, NoReturn

import orjson
import typer

from pipeline.books_args import (
    account_code,
    event_name,
    event_ref,
    fail,
    merchant_of,
    party,
    time_ms,
    whole_amount,
)
from pipeline.domain.account import LEDGER_IDS, AccountCode
from pipeline.domain.flows.accounts import ANCHORS, CHAIN
from pipeline.domain.flows.events import FlowEvent, Kind
from pipeline.settings import Settings, SettingsError, read_settings
from pipeline.terminal import show_table

books_app = typer.Typer(
    no_args_is_help=True,
    help="Off-chain books: deposits, payments, anchors, escrows, settlements, accounts and balances.\n\n"
    "Every command is an event; --event-id names it. The same event again gives the same answer and changes "
    "nothing; a refused event stays refused, --attempt 1 tries again. Works on the cluster of "
    "TIGERBEETLE_ADDRESSES, else on the embedded books of --data-dir; while `tidebook up` runs there, balance, "
    "accounts and audit ask it, and events go to its API.\n\n"
    "Exit status: 0 accepted · 1 refused, or out of reach · 2 a call that can't be an event · 70 a defect.",
)

Asset = Annotated[str, typer.Option("--asset", help=f"One of {', '.join(LEDGER_IDS)}.")]
Amount = Annotated[str, typer.Argument(help="Whole units of the asset, above 0.")]
From = Annotated[
    str, typer.Option("--from", help="Who gives: OWNER or TYPE:OWNER, e.g. alice, merchant:shop-7.")
]
To = Annotated[str, typer.Option("--to", help="Who gets: OWNER or TYPE:OWNER.")]
Authorization = Annotated[str, typer.Argument(help="Id of the authorization.")]
Escrow = Annotated[str, typer.Argument(help="Id of the escrow.")]
Holder = Annotated[str, typer.Argument(help="OWNER or TYPE:OWNER; of an on-chain asset: its address.")]
EventId = Annotated[
    str | None, typer.Option("--event-id", help="Idempotency key of this event; default: a new one, printed.")
]
Attempt = Annotated[int, typer.Option("--attempt", help="Raise it to try a refused event again.")]
When = Annotated[
    str | None, typer.Option("--time", help="Event time; default: now, or that of the first call.")
]
Ends = Annotated[str | None, typer.Option("--expires", help="When it ends, by event time; default: never.")]
DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Where everything is kept (TIDEBOOK_DATA_DIR; default ./tidebook-data)."),
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON lines for programs.")]


@books_app.command("open")
def open_account(
    owner: Annotated[
        str, typer.Argument(help="Who stands behind the account: a reference, no person's name.")
    ],
    asset: Asset,
    kind: Annotated[str, typer.Option("--type", help="user or merchant.")] = "user",
    name: Annotated[str, typer.Option("--name", help="A label for operators; no personal data.")] = "",
    event_id: EventId = None,
    time: When = None,
    data_dir: DataDir = None,
    json: AsJson = False,
) -> None:
    """Open a user's or merchant's account in one asset's book. The book's own accounts open by themselves."""
    from pipeline import books_command as command

    settings = _settings(data_dir)
    if asset not in LEDGER_IDS:
        fail(f"asset: {asset!r} is none of {', '.join(LEDGER_IDS)}", 2)
    ref = command.customer(asset, account_code(kind), owner)
    _answer(*command.run_open(settings, event_name(event_id, 0), time_ms(time, "time"), ref, name), json)


@books_app.command()
def deposit(amount: Amount, asset: Asset, to: To, event_id: EventId = None, attempt: Attempt = 0,
            time: When = None, data_dir: DataDir = None, json: AsJson = False) -> None:  # fmt: skip
    """Value enters the book: TREASURY → account."""
    _do(Kind.DEPOSIT, event_id, attempt, time, data_dir, json, asset=asset, amount=amount, creditor=to)


@books_app.command()
def withdraw(amount: Amount, asset: Asset, debtor: From, event_id: EventId = None, attempt: Attempt = 0,
             time: When = None, data_dir: DataDir = None, json: AsJson = False) -> None:  # fmt: skip
    """Value leaves the book: account → TREASURY."""
    _do(Kind.WITHDRAWAL, event_id, attempt, time, data_dir, json, asset=asset, amount=amount, debtor=debtor)


@books_app.command()
def pay(amount: Amount, asset: Asset, debtor: From, to: To, event_id: EventId = None, attempt: Attempt = 0,
        time: When = None, data_dir: DataDir = None, json: AsJson = False) -> None:  # fmt: skip
    """From one account to another."""
    _do(
        Kind.PAYMENT,
        event_id,
        attempt,
        time,
        data_dir,
        json,
        asset=asset,
        amount=amount,
        debtor=debtor,
        creditor=to,
    )


@books_app.command()
def refund(amount: Amount, payment: Annotated[str, typer.Argument(help="Event id of the payment.")], asset: Asset,
           debtor: From, to: To, event_id: EventId = None, attempt: Attempt = 0, time: When = None,
           data_dir: DataDir = None, json: AsJson = False) -> None:  # fmt: skip
    """Back to who paid; all refunds of a payment together at most the payment."""
    _do(Kind.REFUND, event_id, attempt, time, data_dir, json, asset=asset, amount=amount, debtor=debtor,
        creditor=to, reference=payment)  # fmt: skip


@books_app.command()
def fee(amount: Amount, asset: Asset, debtor: From, event_id: EventId = None, attempt: Attempt = 0,
        time: When = None, data_dir: DataDir = None, json: AsJson = False) -> None:  # fmt: skip
    """A fee: account → FEE_POOL."""
    _do(Kind.FEE, event_id, attempt, time, data_dir, json, asset=asset, amount=amount, debtor=debtor)


@books_app.command()
def authorize(amount: Amount, authorization: Authorization, user: From,
              anchor: Annotated[str, typer.Option("--anchor", help=f"One of {', '.join(ANCHORS)}.")],
              expires: Ends = None, event_id: EventId = None, attempt: Attempt = 0, time: When = None,
              data_dir: DataDir = None, json: AsJson = False) -> None:  # fmt: skip
    """A user authorizes a spend of SOVR at an anchor: USER → SYSTEM_BUFFER."""
    _do(Kind.AUTHORIZE, event_id, attempt, time, data_dir, json, amount=amount, subject=authorization,
        debtor=user, anchor=anchor, expires=expires)  # fmt: skip


@books_app.command()
def claim(authorization: Authorization, event_id: EventId = None, attempt: Attempt = 0, time: When = None,
          data_dir: DataDir = None, json: AsJson = False) -> None:  # fmt: skip
    """The anchor claims it: SYSTEM_BUFFER → ANCHOR in SOVR and TREASURY → ANCHOR in its obligation book."""
    _do(Kind.CLAIM, event_id, attempt, time, data_dir, json, subject=authorization)


@books_app.command()
def fulfil(authorization: Authorization,
           proof: Annotated[str, typer.Option("--proof", help="What proves the delivery: a reference or hash.")],
           attested: Annotated[bool, typer.Option("--attested", help="You verified its signature.")] = False,
           event_id: EventId = None, attempt: Attempt = 0, time: When = None,
           data_dir: DataDir = None, json: AsJson = False) -> None:  # fmt: skip
    """Delivered: ANCHOR → TREASURY in both books. Refused without --attested."""
    _do(
        Kind.FULFIL,
        event_id,
        attempt,
        time,
        data_dir,
        json,
        subject=authorization,
        proof=proof,
        attested=attested,
    )


@books_app.command()
def expire(authorization: Authorization,
           user: Annotated[str, typer.Option("--to", help="The user who authorized it.")],
           event_id: EventId = None, attempt: Attempt = 0, time: When = None,
           data_dir: DataDir = None, json: AsJson = False) -> None:  # fmt: skip
    """Its time has passed: back to the user, from the buffer or, if claimed, from the anchor."""
    _do(Kind.EXPIRE, event_id, attempt, time, data_dir, json, subject=authorization, creditor=user)


@books_app.command()
def lock(amount: Amount, escrow: Escrow, asset: Asset, debtor: From, expires: Ends = None,
         timeout: Annotated[int, typer.Option("--timeout", help="Seconds after which TigerBeetle itself voids the "
                                              "lock, by the cluster's clock: a replay would differ.")] = 0,
         event_id: EventId = None, attempt: Attempt = 0, time: When = None,
         data_dir: DataDir = None, json: AsJson = False) -> None:  # fmt: skip
    """Lock units in escrow: a pending transfer to the owner's ESCROW account."""
    _do(Kind.LOCK, event_id, attempt, time, data_dir, json, asset=asset, amount=amount, subject=escrow,
        debtor=debtor, expires=expires, timeout_s=timeout)  # fmt: skip


@books_app.command()
def release(escrow: Escrow, asset: Asset, debtor: From, to: To,
            amount: Annotated[str | None, typer.Option("--amount", help="Part to release; default: all.")] = None,
            event_id: EventId = None, attempt: Attempt = 0, time: When = None,
            data_dir: DataDir = None, json: AsJson = False) -> None:  # fmt: skip
    """Pay an escrow out; what is not released goes back to its owner."""
    _do(Kind.RELEASE, event_id, attempt, time, data_dir, json, asset=asset, amount=amount, subject=escrow,
        debtor=debtor, creditor=to)  # fmt: skip


@books_app.command()
def void(escrow: Escrow, asset: Asset, debtor: From,
         expired: Annotated[bool, typer.Option("--expired", help="Only if its time has passed.")] = False,
         event_id: EventId = None, attempt: Attempt = 0, time: When = None,
         data_dir: DataDir = None, json: AsJson = False) -> None:  # fmt: skip
    """Give an escrow back to its owner."""
    kind = Kind.LAPSE if expired else Kind.VOID
    _do(kind, event_id, attempt, time, data_dir, json, asset=asset, subject=escrow, debtor=debtor)


@books_app.command()
def settle(amount: Amount, asset: Asset, merchant: From, event_id: EventId = None, attempt: Attempt = 0,
           time: When = None, data_dir: DataDir = None, json: AsJson = False) -> None:  # fmt: skip
    """Pay out what a merchant has earned: MERCHANT → TREASURY."""
    _do(Kind.SETTLE, event_id, attempt, time, data_dir, json, asset=asset, amount=amount,
        debtor=merchant_of(merchant))  # fmt: skip


@books_app.command()
def reverse(settlement: Annotated[str, typer.Argument(help="Event id of the settlement.")], asset: Asset,
            merchant: To, event_id: EventId = None, attempt: Attempt = 0, time: When = None,
            data_dir: DataDir = None, json: AsJson = False) -> None:  # fmt: skip
    """Take a whole settlement back, once: TREASURY → MERCHANT."""
    _do(Kind.REVERSE, event_id, attempt, time, data_dir, json, asset=asset, reference=settlement,
        creditor=merchant_of(merchant))  # fmt: skip


@books_app.command()
def freeze(holder: Holder, asset: Asset, event_id: EventId = None, attempt: Attempt = 0, time: When = None,
           data_dir: DataDir = None, json: AsJson = False) -> None:  # fmt: skip
    """Stop an account until it is thawed. An on-chain one (--asset xrpl:0/XRP) is only marked."""
    _status(Kind.FREEZE, "frozen", holder, asset, event_id, attempt, time, data_dir, json)


@books_app.command()
def thaw(holder: Holder, asset: Asset, event_id: EventId = None, attempt: Attempt = 0, time: When = None,
         data_dir: DataDir = None, json: AsJson = False) -> None:  # fmt: skip
    """Make a frozen account active again."""
    _status(Kind.THAW, "active", holder, asset, event_id, attempt, time, data_dir, json)


@books_app.command()
def close(holder: Holder, asset: Asset, event_id: EventId = None, attempt: Attempt = 0, time: When = None,
          data_dir: DataDir = None, json: AsJson = False) -> None:  # fmt: skip
    """Close an empty account for good."""
    _status(Kind.CLOSE, "closed", holder, asset, event_id, attempt, time, data_dir, json)


@books_app.command()
def accounts(owner: Annotated[str, typer.Argument(help="Only this owner's.")] = "",
             asset: Annotated[str, typer.Option("--asset", help="Only this asset's: a name or a whole key.")] = "",
             status: Annotated[str, typer.Option("--status", help="active, frozen or closed.")] = "",
             data_dir: DataDir = None, json: AsJson = False) -> None:  # fmt: skip
    """The account directory: who has which account, and how it stands."""
    from pipeline import books_reads as reads

    key = f"{CHAIN}/{asset}" if asset and "/" not in asset else asset
    _rows(lambda: reads.directory(_settings(data_dir), owner, key, status), json,
          lambda row: f"{row['status']:<7} {row['asset']}  {row['type']}:{row['owner']}  {row['name']}")  # fmt: skip


@books_app.command()
def balance(owner: Annotated[str, typer.Argument(help="Owner; '' for the book's own accounts.")],
            asset: Annotated[str, typer.Option("--asset", help="Only this asset.")] = "",
            at: Annotated[str | None, typer.Option("--at", help="After the events up to this time.")] = None,
            position: Annotated[int | None, typer.Option(
                "--position", help="After this timestamp of the books, as commands print it.")] = None,
            data_dir: DataDir = None, json: AsJson = False) -> None:  # fmt: skip
    """Available, locked and pending per asset: now, at a time, or at a position of the books."""
    from pipeline import books_reads as reads

    moment = None if at is None else time_ms(at, "at")
    _rows(lambda: (row._asdict() for row in reads.balances(_settings(data_dir), owner, asset, moment, position)),
          json)  # fmt: skip


@books_app.command()
def audit(owner: Annotated[str, typer.Option("--owner", help="Only transfers of this owner.")] = "",
          event: Annotated[str, typer.Option("--event", help="Only this event, e.g. operator:cli:42.")] = "",
          data_dir: DataDir = None, json: AsJson = False) -> None:  # fmt: skip
    """The transfer audit log, each row held against the books. Exit status 1 where one disagrees."""
    from pipeline import books_reads as reads

    wrong: list[str] = []

    def rows() -> Iterable[Mapping[str, Any]]:
        for row in reads.audit(_settings(data_dir), owner, event):
            wrong.extend([row["transfer_id"]] if not row["agrees"] else [])
            yield row

    _rows(rows, json, _audit_line)
    if wrong:
        fail(f"{len(wrong)} rows disagree with the books, first: transfer {wrong[0]}", 1)


def _do(kind: Kind, event_id: str | None, attempt: int, time: str | None, data_dir: Path | None, json: bool,
        **fields: Any) -> None:  # fmt: skip
    """Make the event, have it decided, print the answer."""
    from pipeline import books_command as command

    made: dict[str, Any] = {name: value for name, value in fields.items() if value is not None}
    for side in ("debtor", "creditor"):
        if side in made:
            made[side] = party(made[side], side)
    if "amount" in made:
        made["amount"] = whole_amount(made["amount"])
    if "reference" in made:
        made["reference"] = event_ref(made["reference"])
    if "expires" in made:
        made["expires_ms"] = time_ms(made.pop("expires"), "expires")
    event = FlowEvent(kind=kind, name=event_name(event_id, attempt), time_ms=time_ms(time, "time"), **made)
    _answer(*command.run_event(_settings(data_dir), lambda: event), json)


def _status(kind: Kind, status: str, holder: str, asset: str, event_id: str | None, attempt: int,
            time: str | None, data_dir: Path | None, json: bool) -> None:  # fmt: skip
    from pipeline import books_command as command

    if not command.onchain(asset):
        _do(kind, event_id, attempt, time, data_dir, json, asset=asset, debtor=holder)
        return
    ref = command.customer(asset, AccountCode.HOLDER, holder)
    name = event_name(event_id, attempt)
    _answer(*command.run_status(_settings(data_dir), name, time_ms(time, "time"), ref, status), json)


def _settings(data_dir: Path | None) -> Settings:
    try:
        return read_settings(data_dir=data_dir)
    except SettingsError as error:
        fail(str(error), 2)


def _answer(status: int, told: Any, json: bool) -> NoReturn:
    if isinstance(told, str):
        fail(told, status)
    if json:
        sys.stdout.buffer.write(orjson.dumps(told, option=orjson.OPT_APPEND_NEWLINE))
        raise typer.Exit(status)
    again = " (as before)" if told.get("repeated") else ""
    print(f"{told['status']}{again}: event {told['event_id']}")
    if told["status"] == "refused":
        print(f"  {told['field']}: {told['detail']} [{told['reason']}]")
    for move in told.get("transfers", ()):
        print(f"  {move['debit']} → {move['credit']}  {move['amount']} {move['asset']}  {move['code']} "
              f"{move['status']}  at {move['timestamp']}")  # fmt: skip
    raise typer.Exit(status)


def _audit_line(row: Mapping[str, Any]) -> str:
    sides = [
        f"{AccountCode(row[side + '_code']).name}:{row[side + '_owner']}".rstrip(":")
        for side in ("debit", "credit")
    ]
    mark = "" if row["agrees"] else "  DISAGREES WITH THE BOOKS"
    reason = f"  [{row['reason']}]" if row["reason"] else ""
    return (
        f"{row['time']}  {row['status']:<7} {row['flow']:<9} {sides[0]} → {sides[1]}  {row['amount']} "
        f"{row['asset']}  {row['event_id']}{reason}{mark}"
    )


def _rows(rows: Any, json: bool, line: Callable[[Mapping[str, Any]], str] | None = None) -> None:
    from pipeline import books_command as command

    try:
        found = list(rows())
    except command.FAULTS as error:
        fail(str(error), 1)
    if json:
        for row in found:
            text = {
                n: str(v) if isinstance(v, int) and not isinstance(v, bool) else v for n, v in row.items()
            }
            sys.stdout.buffer.write(orjson.dumps(text, option=orjson.OPT_APPEND_NEWLINE, default=str))
        return
    if found and line is not None:
        print("\n".join(map(line, found)))
    else:
        show_table(found)

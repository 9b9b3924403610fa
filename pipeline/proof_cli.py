"""`tidebook proof`: one transaction, provable to anyone who knows its block's hash. Parses only."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli_options import AsJson, DataDir, settings_or_fail

proof_app = typer.Typer(
    no_args_is_help=True,
    help="Proof files: one transaction, its result and what it did, provable offline under its block's hash.\n\n"
    "Exit status: 0 proven (or made) · 1 it does not fit, or can't be made, said in one line · 2 a wrong call.",
)


@proof_app.command("make")
def make(
    transaction_hash: Annotated[
        str,
        typer.Argument(help="Hash of a transaction in the history: 64 hex digits, of EVM chains with 0x."),
    ],
    chain: Annotated[
        str | None,
        typer.Option("--chain", help="Its chain, where several in the history have this transaction."),
    ] = None,
    log: Annotated[
        int | None,
        typer.Option(
            "--log", min=0, help="EVM: also state this log of it (log_index of its row in evm_logs)."
        ),
    ] = None,
    receipts: Annotated[
        Path | None,
        typer.Option(
            "--receipts",
            help="EVM, where the history keeps only some transactions of the block: a file with the node's "
            "eth_getBlockByHash (whole transactions) and eth_getBlockReceipts. Default: ask the chain's nodes in "
            "TIDEBOOK_EVM_CONFIG.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Where to write the proof; default: standard output.")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Make the proof file of one transaction from the history.

    XRPL: transaction and metadata under the root of the ledger's transaction tree, under the ledger's hash.
    EVM: receipt and transaction under the roots of their tries, under the block's hash.
    """
    from pipeline.proof_make_command import make_file
    from pipeline.proof_source import Wanted

    wanted = Wanted(transaction_hash, chain, log, receipts)
    raise typer.Exit(make_file(settings_or_fail(data_dir=data_dir), wanted, out))


@proof_app.command("check")
def check(
    file: Annotated[Path, typer.Argument(help="A proof file.")],
    block_hash: Annotated[
        str | None,
        typer.Option(
            "--block-hash", help="Hash of the ledger or block that it must lead to, from whom you trust."
        ),
    ] = None,
    json: AsJson = False,
) -> None:
    """Check a proof file, with nothing but the file, and print what it proves.

    All that is printed is decoded from bytes under the block's hash. Needs no data directory and no network.
    """
    from pipeline.proof_command import check_file

    raise typer.Exit(check_file(file, block_hash, json))

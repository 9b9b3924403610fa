"""Runs `tidebook` as a user does, and what the node's truth tables say in the shapes of its exports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from pipeline.domain.quantise import quantise, units_to_decimal

Rows = dict[Any, Any]


@dataclass(frozen=True)
class Ended:
    """A finished command."""

    status: int
    out: str
    err: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


def tidebook(*arguments: str | Path, timeout_s: float = 240, env: Mapping[str, str] | None = None) -> Ended:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", *map(str, arguments)],
        capture_output=True, text=True, timeout=timeout_s, check=False, env={**os.environ, **(env or {})},
    )  # fmt: skip
    return Ended(done.returncode, done.stdout, done.stderr)


def demo(data_dir: Path, *arguments: str | Path) -> tuple[Ended, dict[str, Any]]:
    """`tidebook demo` with its report ({} where it wrote none)."""
    report = data_dir.with_name(f"{data_dir.name}-report.json")
    report.unlink(missing_ok=True)
    ended = tidebook("demo", "--data-dir", data_dir, "--report", report, *arguments)
    return ended, json.loads(report.read_text()) if report.exists() else {}


def exported(data_dir: Path, what: str, *arguments: str | Path) -> Rows:
    """An export keyed by what identifies its rows."""
    ended = tidebook("export", what, "--json", "--data-dir", data_dir, *arguments)
    assert ended.status == 0, ended.err
    keys = {"balances": ("account", "asset"), "nfts": ("nft_id",), "mpts": ("issuance",), "escrows": ("escrow_id",),
            "channels": ("channel_id",)}[what]  # fmt: skip
    rows = {tuple(row[key] for key in keys): row for row in ended.rows}
    assert len(rows) == len(ended.rows), "an export has two rows of the same thing"
    return rows


def plain(value: str) -> str:
    return format(Decimal(value), "f")


def amount(value: Any) -> tuple[str, str]:
    """(asset, amount) of an Amount as the node writes it."""
    if isinstance(value, str):
        return "XRP", value
    if "mpt_issuance_id" in value:
        return f"mpt:{value['mpt_issuance_id']}", value["value"]
    return f"{value['currency']}.{value['issuer']}", plain(value["value"])


def expected_balances(tables: Mapping[str, Any]) -> Rows:
    """Truth tables as `export balances` must print them: zero rows left out."""
    units: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for address, account in tables["accounts"].items():
        units[(address, "XRP")][0] = int(account["balance"])
    for line in tables["iou"]:
        key = (line["holder"], f"{line['currency']}.{line['issuer']}")
        units[key][0] = quantise(plain(line["value_plain"]))
    for holder in tables["mpt_holders"]:
        key = (holder["holder"], f"mpt:{holder['issuance']}")
        units[key] = [int(holder["amount"]), int(holder["locked"])]
    for escrow in tables["escrows"].values():
        asset, value = amount(escrow["Amount"])
        if not asset.startswith("mpt:"):
            units[(escrow["Account"], asset)][1] += int(value) if asset == "XRP" else quantise(value)
    for channel in tables["paychans"].values():
        units[(channel["Account"], "XRP")][1] += int(channel["Amount"]) - int(channel["Balance"])
    issued: dict[str, int] = defaultdict(int)
    for (_, asset), pair in units.items():
        issued[asset] += sum(pair) if asset != "XRP" else 0
    for asset, total in issued.items():
        if asset.startswith("mpt:"):
            issuer = tables["mpt_issuances"].get(asset[4:], {}).get("issuer", "")
        else:
            issuer = asset.rpartition(".")[2]
        units[(issuer, asset)][0] -= total
    shown = {}
    for (account, asset), pair in units.items():
        if any(pair):
            text = str if asset == "XRP" or asset.startswith("mpt:") else units_to_decimal
            shown[(account, asset)] = {
                "account": account, "asset": asset, "available": text(pair[0]), "locked": text(pair[1]),
            }  # fmt: skip
    return shown


def expected_rows(what: str, tables: Mapping[str, Any]) -> Rows:
    """Truth tables as an export must print them."""
    if what == "balances":
        return expected_balances(tables)
    if what == "nfts":
        return {(nft,): {"nft_id": nft, "owner": row["owner"]} for nft, row in tables["nfts"].items()}
    if what == "mpts":
        return {
            (name,): {
                "issuance": name, "issuer": row["issuer"], "outstanding": row["outstanding"],
                "locked": str(row.get("LockedAmount", "0")),
            }
            for name, row in tables["mpt_issuances"].items()
        }  # fmt: skip
    if what == "escrows":
        return {
            (name,): {
                "escrow_id": name, "owner": row["Account"], "destination": row["Destination"],
                "asset": amount(row["Amount"])[0], "amount": amount(row["Amount"])[1],
            }
            for name, row in tables["escrows"].items()
        }  # fmt: skip
    return {
        (name,): {
            "channel_id": name, "owner": row["Account"], "destination": row["Destination"],
            "amount": row["Amount"], "balance": row["Balance"],
        }
        for name, row in tables["paychans"].items()
    }  # fmt: skip


EXPORTS = ("balances", "nfts", "mpts", "escrows", "channels")

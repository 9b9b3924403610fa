"""Runs a scenario of tests/data/tigerbeetle/vectors.json against any engine with ClientSync's methods.

The file is a gzip copy of the vectors named in its own `about` (facts recorded on a TigerBeetle 0.17.8
server; sm/* rearranged from TigerBeetle's src/state_machine_tests.zig, Apache-2.0).
"""

from __future__ import annotations

import gzip
import json
import re
import time
from collections import Counter
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

import tigerbeetle as tb

VECTORS = Path(__file__).parents[1] / "data" / "tigerbeetle" / "vectors.json.gz"
LARGEST = {"": 128, "64": 64, "63": 63, "32": 32, "16": 16}
BLOCK = 1 << 40
EVENTS = {"create_accounts": tb.Account, "create_transfers": tb.Transfer}
FLAGS = {
    "create_accounts": tb.AccountFlags,
    "create_transfers": tb.TransferFlags,
    "get_account_transfers": tb.AccountFilterFlags,
    "get_account_balances": tb.AccountFilterFlags,
    "query_accounts": tb.QueryFilterFlags,
    "query_transfers": tb.QueryFilterFlags,
    "lookup_accounts": tb.AccountFlags,
    "lookup_transfers": tb.TransferFlags,
}
ROW_FLAGS = {
    "lookup_accounts": tb.AccountFlags,
    "query_accounts": tb.AccountFlags,
    "lookup_transfers": tb.TransferFlags,
    "get_account_transfers": tb.TransferFlags,
    "query_transfers": tb.TransferFlags,
}
_blocks = count(time.time_ns() // 1_000 % (1 << 50) * 1_000)


def scenarios() -> list[dict[str, Any]]:
    return json.loads(gzip.decompress(VECTORS.read_bytes()))["scenarios"]


class Run:
    """One scenario on one engine: symbols resolved against a block of ids nobody else uses."""

    def __init__(self, engine: Any, sleep: Any = time.sleep) -> None:
        self.engine = engine
        self.sleep = sleep
        self.base = next(_blocks) * BLOCK
        self.mark = 0
        self.stamps: dict[int, int] = {}

    def play(self, scenario: dict[str, Any]) -> None:
        for number, step in enumerate(scenario["steps"]):
            where = f"{scenario['name']}, step {number} ({step['op']})"
            if step["op"] == "wait":
                self.sleep(step["seconds"])
            elif step["op"] == "mark":
                self._probe()
            else:
                self._check(step, where)

    def _probe(self) -> None:
        ident = self.base + BLOCK - 7 - len(self.stamps)
        (result,) = self.engine.create_accounts([tb.Account(id=ident, ledger=1, code=1)])
        assert result.status == tb.CreateAccountStatus.CREATED
        self.mark = result.timestamp

    def number(self, value: Any) -> int:
        if isinstance(value, dict):
            if "mark" in value:
                return self.mark + value["mark"]
            return self.stamps[self.number(value["of"])] + value.get("plus", 0)
        if isinstance(value, int):
            return value
        if found := re.fullmatch(r"([ATU])(\d+)", value):
            return self.base + "ATU".index(found[1]) * (BLOCK >> 2) + int(found[2])
        found = re.fullmatch(r"MAX(\d*)(?:([+-])(\d+))?", value)
        assert found, value
        largest = (1 << LARGEST[found[1]]) - 1
        return largest + int(f"{found[2] or '+'}{found[3] or 0}")

    def flags(self, kind: Any, names: list[str]) -> Any:
        bits = 0
        for name in names:
            bits |= 1 << int(name[3:]) if name.startswith("bit") else int(kind[name.upper()])
        return kind(bits)

    def event(self, op: str, event: dict[str, Any]) -> Any:
        fields = {k: self.number(v) for k, v in event.items() if k != "flags"}
        fields["flags"] = self.flags(FLAGS[op], event.get("flags", []))
        if op in EVENTS:
            return self._own_64(EVENTS[op], fields)
        names = ("user_data_128", "user_data_64", "user_data_32", "code", "timestamp_min", "timestamp_max")
        blank = dict.fromkeys((*names, "limit"), 0)
        if op.startswith("query"):
            return self._own_64(tb.QueryFilter, {**blank, "ledger": 0, **fields})
        return self._own_64(tb.AccountFilter, {**blank, "account_id": 0, **fields})

    def _own_64(self, kind: Any, fields: dict[str, Any]) -> Any:
        """A U symbol in a 64-bit field keeps its low 64 bits."""
        if (data := fields.get("user_data_64", 0)) >= self.base > 1 << 64:
            fields["user_data_64"] = data % (1 << 64)
        return kind(**fields)

    def _events(self, step: dict[str, Any]) -> list[Any]:
        op = step["op"]
        if "bulk" not in step:
            raw = step["events"]
        else:
            bulk, raw = step["bulk"], []
            for i in range(bulk["count"]):
                n = bulk.get("first", 1) + i
                event = bulk["event"]
                if isinstance(event, str):
                    raw.append(event.replace("#", str(n)))
                else:
                    raw.append({**event, "id": event["id"].replace("#", str(n))})
            if "last" in bulk:
                raw[-1] = {**raw[-1], **bulk["last"]}
        if op.startswith("lookup"):
            return [self.number(ident) for ident in raw]
        return [self.event(op, event) for event in raw]

    def _check(self, step: dict[str, Any], where: str) -> None:
        op, expect, events = step["op"], step["expect"], self._events(step)
        call = getattr(self.engine, op)
        single = op.startswith(("get_", "query_"))
        if isinstance(expect, dict) and "raises" in expect:
            try:
                call(events[0] if single else events)
            except (tb.TooMuchDataError, tb.IntegerOverflowError) as error:
                assert type(error).__name__ == expect["raises"], where
                return
            raise AssertionError(f"{where}: {expect['raises']} was not raised")
        got = call(events[0] if single else events)
        if op in EVENTS:
            self._check_results(events, got, expect, where)
        elif isinstance(expect, dict):
            assert len(got) == expect["row_count"], where
        else:
            assert [asdict(row) for row in got] == [self._row(op, row) for row in expect], where

    def _check_results(self, events: list[Any], got: list[Any], expect: Any, where: str) -> None:
        names = [result.status.name.lower() for result in got]
        if isinstance(expect, dict):
            assert Counter(names) == expect["counts"], where
        else:
            assert names == expect, where
        for event, result, name in zip(events, got, names, strict=True):
            if name == "created":
                self.stamps[event.id] = result.timestamp
            elif name == "exists":
                assert self.stamps.get(event.id, result.timestamp) == result.timestamp, where

    def _row(self, op: str, row: dict[str, Any]) -> dict[str, Any]:
        fields = {k: self.number(v) for k, v in row.items() if k != "flags"}
        if op == "get_account_balances":
            blank: Any = tb.AccountBalance(0, 0, 0, 0, 0)
        elif "accounts" in op:
            blank = self._own_64(tb.Account, fields)
        else:
            blank = self._own_64(tb.Transfer, fields)
        result = {**asdict(blank), **{k: v for k, v in fields.items() if k != "user_data_64"}}
        if op in ROW_FLAGS:
            result["flags"] = self.flags(ROW_FLAGS[op], row.get("flags", []))
        if "timestamp" not in fields:
            result["timestamp"] = self.stamps[fields["id"]]
        return result

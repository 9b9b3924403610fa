"""The history sink on chDB: what becomes rows, what is refused, what is remembered."""

import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas.compatibility import faults  # noqa: F401
from schemas.loader import Schema, make_schema, schemas
from schemas.registry import LocalRegistry, entry_of
from sinks.clickhouse import ClickHouseHistory
from sinks.clickhouse_client import DirectoryInUse, DirectoryLock, Place, QueryError, json_value
from sinks.sink import HistoryMessage
from tests.support.history import (
    ALERTS,
    CODEC,
    LEDGERS,
    QUARANTINE,
    START_MS,
    chain,
    change,
    expected,
    found,
    history,
    ledger,
    message,
    transaction,
)

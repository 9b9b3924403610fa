"""What `tidebook up` tells of itself: the file that other commands read, and the line that a person reads."""

import json
import os
import subprocess
import sys
from pathlib import Path

from pipeline.running import UP_FILE, running
from pipeline.settings import Settings
from pipeline.up import Up
from pipeline.up_command import _table, ways_in


def test_what_runs_is_told_and_nothing_else(tmp_path: Path) -> None:
    """No file; not JSON; no process in it; a process that ended; one that runs."""
    assert running(tmp_path) is None
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for text in ("{", "[]", "{}", '{"pid": "x"}', json.dumps({"pid": ended.pid})):
        (tmp_path / UP_FILE).write_text(text)
        assert running(tmp_path) is None, text
    told = {"pid": os.getpid(), "clickhouse_url": "http://127.0.0.1:1"}
    (tmp_path / UP_FILE).write_text(json.dumps(told))
    assert running(tmp_path) == told


def test_up_says_how_to_ask_the_history(tmp_path: Path) -> None:
    up = Up(Settings(data_dir=tmp_path), [], 0.0)
    assert ways_in(up) == ""  # a server is configured: it has its own ways in
    assert "history on its server" in str(_table(up, 1.0).title)
    up.clickhouse_url = "http://127.0.0.1:18123"
    assert ways_in(up).startswith("history http://127.0.0.1:18123 ") and "\n" not in ways_in(up)
    assert "http://127.0.0.1:18123/?query=SHOW+TABLES" in ways_in(up)
    assert "history http://127.0.0.1:18123 " in str(_table(up, 1.0).title)

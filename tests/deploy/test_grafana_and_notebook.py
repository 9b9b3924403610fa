"""deploy/grafana and docs/analysts.ipynb: every panel's SQL and every cell runs on real rows.

`expanded` is the little of Grafana that the dashboards use: the time macros of its ClickHouse data source over a span
that holds all rows, and a variable of several values as `${name:singlequote}`.
"""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.table import Table

from sinks.audit_store import CREATE
from tests.deploy.test_deploy_files import exported
from tests.support.report_scene import ReportScene, report_scene

pytestmark = pytest.mark.xdist_group("grafana")  # one fixture for them all

FOLDER = Path(__file__).parents[2] / "deploy" / "grafana"
BOARDS = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))
    for path in sorted(FOLDER.glob("dashboards/*.json"))
}
NOTEBOOK = json.loads((FOLDER.parents[1] / "docs" / "analysts.ipynb").read_text(encoding="utf-8"))
COMPOSE = yaml.safe_load((FOLDER.parent / "compose.yaml").read_text(encoding="utf-8"))
FROM, TO = "toDateTime(1262304000)", "toDateTime(4102444799)"
MACROS = {
    "timeFilter": rf"(\1 >= {FROM} AND \1 <= {TO})",
    "dateFilter": rf"(\1 >= toDate({FROM}) AND \1 <= toDate({TO}))",
    "timeInterval": r"toStartOfInterval(toDateTime(\1), INTERVAL 60 second)",
}
AUDITED = "(now64(), 'offsets', true), (now64(), 'rows', false), (now64(), 'books', NULL)"
MAY_BE_EMPTY = {"In quarantine"}  # of a pipeline that nobody has harmed


def expanded(sql: str, variables: dict[str, list[str]]) -> str:
    """SQL as it leaves Grafana. Raises AssertionError for a macro or a variable that is not known here."""
    for name, text in MACROS.items():
        sql = re.sub(rf"\$__{name}\(([\w.]+)\)", text, sql)
    for name, values in variables.items():
        sql = sql.replace(f"${{{name}:singlequote}}", ", ".join(f"'{value}'" for value in values))
    assert not re.search(r"\$(__|\{)", sql), sql
    return sql


def targets(board: dict[str, Any], kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(title of the panel, query) of one kind of data source."""
    for panel in board["panels"]:
        for target in panel["targets"]:
            if target["datasource"]["type"] == kind:
                yield panel["title"], target


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReportScene]:
    with report_scene(tmp_path_factory.mktemp("grafana")) as made:
        client = made.world.history._client
        for statement in (CREATE, f"INSERT INTO audits (at, `check`, ok) VALUES {AUDITED}"):
            client.command(statement)
        yield made


@pytest.mark.parametrize("name", BOARDS)
def test_every_panel_answers_on_real_rows(scene: ReportScene, name: str) -> None:
    board, variables = BOARDS[name], dict[str, list[str]]()
    for variable in board["templating"]["list"]:
        variables[variable["name"]] = [str(next(iter(row.values()))) for row in scene.rows(variable["query"])]
        assert variables[variable["name"]], variable["name"]
    for title, target in targets(board, "grafana-clickhouse-datasource"):
        rows = scene.rows(expanded(target["rawSql"], variables))
        assert rows or title in MAY_BE_EMPTY, title
        if target["queryType"] == "timeseries" and rows:
            assert next(iter(rows[0])) == "time", title


def test_the_charts_tell_what_the_tables_tell(scene: ReportScene) -> None:
    """Gas per day is what the ledgers themselves say of their fees."""
    variables = {"gas_chain": [row["chain"] for row in scene.rows("SELECT DISTINCT chain FROM gas_by_day")]}
    panels = dict(targets(BOARDS["gas"], "grafana-clickhouse-datasource"))
    exact = scene.rows(expanded(panels["Gas by day, exact"]["rawSql"], variables))
    found = {row["chain"]: int(row["fee_paid"]) for row in exact if row["chain"] == "xrpl:test"}
    (ledgers,) = scene.rows("SELECT toString(sum(fees)) AS fees FROM xrpl_ledgers WHERE chain = 'xrpl:test'")
    assert found == {"xrpl:test": int(ledgers["fees"])}
    drawn = scene.rows(expanded(panels["Gas per day"]["rawSql"], variables))
    assert [int(row["fee_paid"]) for row in drawn if row["chain"] == "xrpl:test"] == list(found.values())


@pytest.mark.parametrize("name", BOARDS)
def test_a_dashboard_names_what_exists(name: str) -> None:
    board = BOARDS[name]
    sources = yaml.safe_load((FOLDER / "provisioning/datasources/tidebook.yaml").read_text(encoding="utf-8"))
    known = {(source["type"], source["uid"]) for source in sources["datasources"]}
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids) and board["uid"] == f"tidebook-{name}"
    for panel in board["panels"]:
        assert panel["description"] and panel["targets"], panel["title"]
        for target in panel["targets"]:
            assert (target["datasource"]["type"], target["datasource"]["uid"]) in known
            for metric in re.findall(r"\btidebook_\w+", target.get("expr", "")):
                assert metric in exported(), metric
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24


def test_grafana_is_given_them() -> None:
    service = COMPOSE["services"]["grafana"]
    mounts = dict(volume.split(":")[:2] for volume in service["volumes"])
    provider = yaml.safe_load((FOLDER / "provisioning/dashboards/tidebook.yaml").read_text(encoding="utf-8"))
    (path,) = [one["options"]["path"] for one in provider["providers"]]
    assert mounts["./grafana/dashboards"] == path and "./grafana/provisioning" in mounts
    text = (FOLDER / "provisioning/datasources/tidebook.yaml").read_text(encoding="utf-8")
    assert set(re.findall(r"\$(\w+)", text)) <= set(service["environment"])
    assert service["environment"]["GF_PLUGINS_PREINSTALL_SYNC"] == "grafana-clickhouse-datasource"


# The notebook


def displayed(source: str, names: dict[str, Any]) -> Any:
    """Run a cell; what it would show: the value of its last expression."""
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names) if last else None


def test_every_cell_of_the_notebook_runs(scene: ReportScene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the port of a running pipeline; its numbers are those of the ledgers."""
    monkeypatch.setenv("TIDEBOOK_CLICKHOUSE_URL", scene.world.port.url)
    names: dict[str, Any] = {}
    shown = [
        displayed("".join(cell["source"]), names) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"
    ]
    charts = [one for one in shown if hasattr(one, "_repr_svg_")]
    tables = [one for one in shown if isinstance(one, Table)]
    assert len(charts) == 2 and all("<svg" in chart._repr_svg_() for chart in charts)
    assert len(tables) == 6 and all(table.row_count for table in tables)
    (ledgers,) = scene.rows("SELECT toString(sum(fees)) AS fees FROM xrpl_ledgers WHERE chain = 'xrpl:test'")
    assert sum(row["fee_paid"] for row in names["gas"] if row["chain"] == "xrpl:test") == int(ledgers["fees"])
    assert names["last"]["block"] == names["ledger"]["ledger_index"] and names["transaction"]["raw"]


def test_the_notebook_is_kept_without_outputs() -> None:
    assert (NOTEBOOK["nbformat"], NOTEBOOK["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in NOTEBOOK["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in NOTEBOOK["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None

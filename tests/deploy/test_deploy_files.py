"""deploy/ names only what exists: settings, commands and their options, ports, services, metrics.

No container runs here. What is checked is what can be without: the files against the settings, the command
line and each other.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from pipeline.cli import app
from pipeline.ingest.xrpl.address import core, parse_addresses
from pipeline.settings import Settings

DEPLOY = Path(__file__).parents[2] / "deploy"
PIPELINE = DEPLOY.parent / "pipeline"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
PROMETHEUS = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
RULES = yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"].startswith("tidebook:")}
WORKERS = {name: service for name, service in OURS.items() if name != "setup"}
OTHERS = {name: service for name, service in SERVICES.items() if name not in OURS}
# Settings that a cluster has no use for: the embedded broker's, the assets role's local views, own chains.
NOT_DEPLOYED = {
    "TIDEBOOK_EPOCH",
    "TIDEBOOK_INSTANCE",
    "TIDEBOOK_WEB_PORT",
    "TIDEBOOK_CHAINS_FILE",
    "TIDEBOOK_CLICKHOUSE_PORT",
}
ONE_ONLY = {"TIDEBOOK_EVM_CONFIG"}  # of the service ingest-evm alone
SECRETS = {
    "KAFKA_CLUSTER_ID": "MkU3OEVBNTcwNTJENDM2Qg",
    "CLICKHOUSE_PASSWORD": "pw",
    "CLICKHOUSE_ANALYST_PASSWORD": "pa",
    "CLICKHOUSE_ADMIN_PASSWORD": "po",
    "GRAFANA_PASSWORD": "pg",
}
VARIABLE = re.compile(r"\$\{([A-Z_]+)(?::([-?])([^}]*))?\}")


def texts() -> Iterator[tuple[str, str]]:
    """(path within deploy/, text) of every file there."""
    for path in sorted(DEPLOY.rglob("*")):
        if path.is_file():
            yield str(path.relative_to(DEPLOY)), path.read_text(encoding="utf-8")


def setting_names() -> set[str]:
    """Environment variables that are settings."""
    names = set()
    for name, field in Settings.model_fields.items():
        alias = getattr(field.validation_alias, "choices", [None])[-1]
        names.add(alias or f"TIDEBOOK_{name.upper()}")
    return names


def env_example() -> dict[str, str]:
    lines = (DEPLOY / ".env.example").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def interpolated(value: Any, env: dict[str, str]) -> str:
    """A value of compose.yaml as Docker Compose fills it in."""
    return VARIABLE.sub(lambda found: env.get(found[1]) or (found[3] if found[2] == "-" else ""), str(value))


# Settings


def test_every_variable_that_is_named_is_a_setting() -> None:
    real = setting_names()
    assert {"TIDEBOOK_KAFKA_URL", "TIGERBEETLE_ADDRESSES"} <= real
    for name, text in texts():
        named = set(re.findall(r"\b(?:TIDEBOOK|TIGERBEETLE)_[A-Z0-9_]*[A-Z0-9]\b", text))
        assert named <= real, f"{name} names {sorted(named - real)}, which are no settings"


def test_every_setting_is_deployed_or_has_its_reason() -> None:
    assert set(COMPOSE["x-settings"]) == setting_names() - NOT_DEPLOYED - ONE_ONLY
    assert set(SERVICES["ingest-evm"]["environment"]) > ONE_ONLY


def test_env_example_and_compose_name_the_same_variables() -> None:
    used = set(VARIABLE.findall((DEPLOY / "compose.yaml").read_text(encoding="utf-8")))
    assert {name for name, _, _ in used} == set(env_example())
    demanded = {name for name, mark, _ in used if mark == "?"}
    assert demanded == {*SECRETS, "TIDEBOOK_XRPL_URLS"}
    assert all(env_example()[name] == "" for name in demanded)


def test_defaults_are_those_of_the_settings() -> None:
    """With nothing set but what compose demands, each role has the settings' own defaults."""
    plain = Settings()
    for env in ({}, env_example()):
        for name, value in COMPOSE["x-settings"].items():
            field = name.removeprefix("TIDEBOOK_").lower()
            if "${" in str(value) and name not in ("TIDEBOOK_XRPL_URLS", "TIDEBOOK_CLICKHOUSE_URL"):
                told = interpolated(value, env)
                given = Settings.model_validate({field: told} if told else {})  # as the environment is read
                assert getattr(given, field) == getattr(plain, field), name


def test_settings_as_deployed_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = "core=ws://core:6006,treasury=ws://treasury:6005,member=wss://member:6007"
    env = {**env_example(), **SECRETS, "TIDEBOOK_XRPL_URLS": nodes}
    for name, value in COMPOSE["x-settings"].items():
        monkeypatch.setenv(name, interpolated(value, env))
    settings = Settings()
    assert settings.clickhouse_url == "http://tidebook:pw@clickhouse:8123/tidebook"
    assert [address.url for address in core(parse_addresses(settings.xrpl_urls))] == ["ws://core:6006"]
    assert settings.metrics_port == 9100


# Commands


def command_lines() -> Iterator[tuple[str, list[str]]]:
    """(where it stands, arguments after `tidebook`) of every command of ours."""
    for name, service in OURS.items():
        command = service["command"]
        if "entrypoint" in service:
            for found in re.findall(r"\btidebook ([^&|;]+)", command[0]):
                yield f"service {name}", shlex.split(found)
        else:
            yield f"service {name}", command
    for number, line in enumerate((DEPLOY / "README.md").read_text(encoding="utf-8").splitlines(), 1):
        ours = re.match(rf"docker compose (?:run --rm|exec) (?:{'|'.join(OURS)}) (.*)", line)
        if ours or line.startswith("tidebook "):
            words = shlex.split(ours[1] if ours else line.removeprefix("tidebook "), comments=True)
            yield f"README.md:{number}", words


@pytest.mark.parametrize(("where", "words"), list(command_lines()))
def test_a_command_line_parses(where: str, words: list[str]) -> None:
    command: Any = typer.main.get_command(app)
    rest = list(words)
    while hasattr(command, "commands"):
        assert rest and rest[0] in command.commands, f"{where}: no command {' '.join(words)}"
        command = command.commands[rest.pop(0)]
    try:
        command.make_context("tidebook", rest).close()
    except Exception as error:  # typer carries its own copy of click and of its exceptions
        pytest.fail(f"{where}: tidebook {' '.join(words)}: {error}")


def test_all_that_the_system_needs_is_started() -> None:
    lines = {" ".join(words) for where, words in command_lines() if where.startswith("service ")}
    assert lines == {
        "topics apply",
        "schemas register",
        "ingest xrpl --follow",
        "ingest evm --follow",
        "work books",
        "work assets",
        "work history",
        "serve",
        "lag --serve",
    }


# Ports, names, health


def port_of(url: str) -> int:
    return int(re.findall(r":(\d+)", url)[-1])


def test_settings_name_services_and_ports_that_exist() -> None:
    listening = {
        "kafka": {port_of(p) for p in SERVICES["kafka"]["environment"]["KAFKA_LISTENERS"].split(",")},
        "schema-registry": {int(SERVICES["schema-registry"]["environment"]["KARAPACE_PORT"])},
        "clickhouse": {8123},
    }
    settings = COMPOSE["x-settings"]
    for name in ("TIDEBOOK_KAFKA_URL", "TIDEBOOK_SCHEMA_REGISTRY_URL", "TIDEBOOK_CLICKHOUSE_URL"):
        host, port = re.findall(r"(?:^|//|@)([a-z-]+):(\d+)", VARIABLE.sub("x", settings[name]))[-1]
        assert int(port) in listening[host], name
    assert SERVICES["schema-registry"]["environment"]["KARAPACE_BOOTSTRAP_URI"] == "kafka:9092"
    addresses = settings["TIGERBEETLE_ADDRESSES"]
    own = SERVICES["tigerbeetle"]["networks"]["tidebook"]["ipv4_address"]
    assert addresses == f"{own}:3001"
    (subnet,) = COMPOSE["networks"]["tidebook"]["ipam"]["config"]
    assert own.rpartition(".")[0] == subnet["subnet"].rpartition(".")[0]
    assert f"0.0.0.0:{port_of(addresses)}" in SERVICES["tigerbeetle"]["command"][0]


def test_health_and_metrics_are_asked_where_they_are_served() -> None:
    port = int(COMPOSE["x-settings"]["TIDEBOOK_METRICS_PORT"])
    assert COMPOSE["x-settings"]["TIDEBOOK_METRICS_HOST"] == "0.0.0.0"
    for name, service in WORKERS.items():
        assert f"http://127.0.0.1:{port}/health" in service["healthcheck"]["test"][-1], name
        own = [COMPOSE["x-settings"]["TIDEBOOK_API_PORT"]] if name == "serve" else []
        assert [of.rpartition(":")[2] for of in service["ports"]] == [str(port), *own], name
    scraped = [
        target
        for job in PROMETHEUS["scrape_configs"]
        for config in job["static_configs"]
        for target in config["targets"]
    ]
    assert sorted(scraped) == sorted(f"{name}:{port}" for name in WORKERS)


def test_every_service_has_a_health_check_on_a_port_of_its_own() -> None:
    for name, service in OTHERS.items():
        asked = " ".join(service["healthcheck"]["test"])
        listens = str({k: v for k, v in service.items() if k != "healthcheck"})
        (port,) = set(re.findall(r"(?:localhost:|127\.0\.0\.1[: ])(\d+)", asked))
        assert port in listens, f"{name} is asked on {port}, which it does not listen on"


def test_ports_of_the_host_are_local_and_used_once() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in published)
    hosts = [port.split(":")[1] for port in published]
    assert len(set(hosts)) == len(hosts)


def test_what_is_waited_for_exists_and_can_come() -> None:
    for name, service in SERVICES.items():
        for other, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[other], f"{name} waits for the health of {other}"
            else:
                assert how["condition"] == "service_completed_successfully"
                assert SERVICES[other]["restart"] == "no", f"{name} waits for {other}, which never ends"


def test_volumes_and_networks_exist() -> None:
    used = {volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    assert {of for of in used if not of.startswith(".")} == set(COMPOSE["volumes"])
    assert all((DEPLOY / of).is_dir() for of in used if of.startswith("."))
    assert all(set(service["networks"]) == set(COMPOSE["networks"]) for service in SERVICES.values())


# Images


def test_images_are_pinned() -> None:
    images = [service["image"] for service in SERVICES.values()]
    dockerfile = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    (tag,) = re.findall(r"^ARG PYTHON_TAG=(\S+)", dockerfile, re.MULTILINE)
    assert set(re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)) == {"python:${PYTHON_TAG}"}
    for image in [*images, f"python:{tag}"]:
        assert re.fullmatch(r"[a-z0-9./-]+:v?\d+\.\d+[\w.-]*", image), image


def test_books_client_and_server_are_of_one_version() -> None:
    """A TigerBeetle client must not be newer than its server."""
    server = SERVICES["tigerbeetle"]["image"].rpartition(":")[2]
    assert {service["build"]["args"]["BOOKS_CLIENT_VERSION"] for service in OURS.values()} == {server}
    assert f"ARG BOOKS_CLIENT_VERSION={server}\n" in (DEPLOY / "Dockerfile").read_text(encoding="utf-8")


def test_the_image_is_built_from_what_there_is_and_runs_without_root() -> None:
    dockerfile = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    allowed = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8")
    for line in re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile, re.MULTILINE):
        for source in line.split():
            assert (DEPLOY.parent / source).exists() and f"!{source}\n" in allowed
    user = re.findall(r"^USER (\S+)", dockerfile, re.MULTILINE)
    assert user and user[-1] not in ("root", "0")
    (data_dir,) = set(re.findall(r"TIDEBOOK_DATA_DIR=(\S+)", dockerfile))
    assert data_dir == COMPOSE["x-settings"]["TIDEBOOK_DATA_DIR"]
    assert all(f"tidebook-data:{data_dir}" in service["volumes"] for service in OURS.values())


# Alerts


def rules() -> list[dict[str, Any]]:
    return [rule for group in RULES["groups"] for rule in group["rules"]]


def test_prometheus_reads_the_rules() -> None:
    assert [(DEPLOY / "prometheus" / name).exists() for name in PROMETHEUS["rule_files"]] == [True]
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names)
    for rule in rules():
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert {"summary", "action"} == set(rule["annotations"])


def exported() -> set[str]:
    """Names that pipeline/metrics*.py give to Prometheus, as a scrape shows them."""
    source = "".join(path.read_text(encoding="utf-8") for path in PIPELINE.glob("metrics*.py"))
    made = re.findall(r"\b(Counter|Gauge|Histogram)(?:MetricFamily)?\(\s*\"(tidebook_\w+)\"", source)
    endings = {"Counter": ["_total"], "Gauge": [""], "Histogram": ["_bucket", "_count", "_sum"]}
    return {name + ending for kind, name in made for ending in endings[kind]}


def test_rules_ask_for_metrics_that_exist() -> None:
    for rule in rules():
        asked = set(re.findall(r"\btidebook_[a-z0-9_]+", rule["expr"]))
        assert asked or rule["expr"].startswith("up{"), rule["alert"]
        assert asked <= exported(), f"{rule['alert']} asks for {asked - exported()}"


def test_rules_name_jobs_that_exist() -> None:
    jobs = {job["job_name"] for job in PROMETHEUS["scrape_configs"]}
    for rule in rules():
        for pattern in re.findall(r'job=~?"([^"]+)"', rule["expr"]):
            assert any(re.fullmatch(pattern, job) for job in jobs), f"{rule['alert']}: {pattern}"

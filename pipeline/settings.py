"""All settings, read once from the environment (prefix TIDEBOOK_) and passed down.

Empty addresses mean: run it embedded, inside the data directory.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict


class SettingsError(ValueError):
    """A setting is wrong; the message names it."""


class Settings(BaseSettings):
    """Where everything is. Each field is one environment variable."""

    model_config = SettingsConfigDict(
        env_prefix="TIDEBOOK_", env_ignore_empty=True, frozen=True, populate_by_name=True
    )

    data_dir: Path = Field(Path("tidebook-data"), description="Directory of all embedded stores.")
    kafka_url: str = Field(
        "", description="Bootstrap servers, host:port[,host:port…]; empty: embedded broker."
    )
    clickhouse_url: str = Field("", description="http(s)://user:password@host:port/database; empty: chDB.")
    tigerbeetle_addresses: str = Field(
        "",
        validation_alias=AliasChoices("tigerbeetle_addresses", "TIGERBEETLE_ADDRESSES"),
        description="Replica addresses of the TigerBeetle cluster; empty: embedded books.",
    )
    tigerbeetle_cluster_id: int = Field(
        0, validation_alias=AliasChoices("tigerbeetle_cluster_id", "TIGERBEETLE_CLUSTER_ID"), ge=0
    )
    epoch: str = Field("", description="Incarnation of the topics; drawn by whoever starts the broker.")
    broker_session_s: float = Field(
        10.0,
        ge=2,
        description="Seconds without a heartbeat after which the broker gives a worker's partitions away.",
    )
    instance: str = Field(
        "",
        description="Name of this worker among those of its role: its partitions wait for it over a restart; "
        "empty: they are given to others at once.",
    )
    web_port: int = Field(0, ge=0, le=65535, description="Port of the assets role's web views; 0: none.")

    schema_registry_url: str = Field(
        "",
        description="Confluent-compatible schema registry, http(s)://[user:password@]host:port; empty: local.",
    )
    metrics_port: int = Field(
        0, ge=0, le=65535, description="Port of this process's /metrics and /health; 0: none."
    )
    metrics_host: str = Field("127.0.0.1", description="Address that /metrics and /health listen on.")
    chains_file: Path | None = Field(
        None, description="Own chains beside the built-in registry, in the form of pipeline/chains.toml."
    )
    xrpl_urls: str = Field(
        "",
        description="XRPL nodes, [role=]ws(s)://host[:port][,…]; role core (default), treasury or member: "
        "the ingest reads core nodes only.",
    )
    xrpl_network: str = Field(
        "", description="Network that the nodes must be of, e.g. xrpl:0 (mainnet); empty: the one they name."
    )
    xrpl_verify: Literal["header", "full"] = Field(
        "full", description="Check headers only, or also recompute the root of each ledger's transactions."
    )
    xrpl_validators: str = Field(
        "", description="Public keys of trusted validators (nH…, n9… or ED…), comma-separated; empty: none."
    )
    xrpl_quorum: int = Field(
        0, ge=0, description="Valid signatures a ledger needs; 0: 80 % of xrpl_validators, rounded up."
    )
    xrpl_rate: float = Field(100.0, ge=0, description="Requests a second to one node; 0: no limit.")
    xrpl_parallel: int = Field(16, ge=1, le=512, description="Ledgers asked for at the same time.")
    xrpl_timeout_s: float = Field(10.0, gt=0, description="Seconds that a node has for an answer.")
    xrpl_silence_s: float = Field(
        12.0, gt=0, description="Seconds without a new ledger after which a node is asked, then left."
    )

    evm_config: Path | None = Field(
        None,
        description="EVM chains to follow: their nodes, contracts and modes (form: deploy/evm.example.toml).",
    )

    api_host: str = Field("127.0.0.1", description="Address that `tidebook serve` listens on.")
    api_port: int = Field(8480, ge=1, le=65535, description="Port that `tidebook serve` listens on.")
    api_body_max: int = Field(
        8 << 20, ge=1024, description="Largest body of a request that `tidebook serve` reads, in bytes."
    )
    api_trusted_proxies: str = Field(
        "",
        description="Reverse proxies in front of `tidebook serve`, addresses and networks, comma-separated: their "
        "X-Forwarded-For says which address a request without a key counts for; empty: nobody's does.",
    )
    apps_config: Path | None = Field(
        None,
        description="Applications whose chain assets are watched: issuers, treasuries, attestors "
        "(form: deploy/apps.example.toml).",
    )
    webhooks_config: Path | None = Field(
        None,
        description="Signed webhooks: name, secret's variable, topic (form: deploy/webhooks.example.toml).",
    )
    signing_key: Path | None = Field(
        None,
        description="Ed25519 private key (PEM) that signs compliance exports; none: they are not signed.",
    )
    audit_every_s: float = Field(
        60.0, ge=0, description="Seconds between audits of what the history role has committed; 0: none."
    )
    audit_whole_every_s: float = Field(
        3600.0, ge=0, description="Seconds between audits of everything in the history; 0: none."
    )
    clickhouse_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="Port on 127.0.0.1 where the history role answers ClickHouse's HTTP interface for chDB; 0: none.",
    )

    @property
    def books_dir(self) -> Path:
        """Embedded books."""
        return self.data_dir / "books"

    @property
    def applications_dir(self) -> Path:
        """States of the applications' topics, one file per topic."""
        return self.data_dir / "applications"

    @property
    def intake_dir(self) -> Path:
        """The intake's journal and API keys."""
        return self.data_dir / "intake"

    @property
    def clickhouse_dir(self) -> Path:
        """chDB's folder."""
        return self.data_dir / "clickhouse"

    @property
    def chains_dir(self) -> Path:
        """Registry of recorded chains."""
        return self.data_dir / "chains"


def read_settings(**overrides: object) -> Settings:
    """Settings from the environment; `overrides` that are not None win. Raises SettingsError."""
    try:
        return Settings(**{name: value for name, value in overrides.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        name = "_".join(str(part) for part in first["loc"]).upper()
        name = name if name.startswith(("TIDEBOOK_", "TIGERBEETLE_")) else f"TIDEBOOK_{name}"
        raise SettingsError(f"setting {name}: {first['msg']} (got {first['input']!r})") from None

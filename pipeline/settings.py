"""All settings, read once from the environment (prefix TIDEBOOK_) and passed down.

Empty addresses mean: run it embedded, inside the data directory.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import AliasChoices, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict


class SettingsError(ValueError):
    """A setting is wrong; the message names it."""


class Settings(BaseSettings):
    """Where everything is. Each field is one environment variable."""

    model_config = SettingsConfigDict(env_prefix="TIDEBOOK_", frozen=True, populate_by_name=True)

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
    web_port: int = Field(0, ge=0, le=65535, description="Port of the assets role's web views; 0: none.")

    @property
    def books_dir(self) -> Path:
        """Embedded books."""
        return self.data_dir / "books"

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

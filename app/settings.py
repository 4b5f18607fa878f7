"""Every setting of the application, from the environment (prefix BANKSTREAM_), typed and checked at start."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.errors import SettingsError

Positive = Annotated[int, Field(gt=0)]
Port = Annotated[int, Field(gt=0, lt=65536)]


def split_commas(text: object) -> object:
    """`a, b` to `("a", "b")`; other values pass through to pydantic."""
    return tuple(part.strip() for part in text.split(",") if part.strip()) if isinstance(text, str) else text


class _Section(BaseSettings):
    model_config = SettingsConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)


class KafkaSettings(_Section):
    """How to reach Kafka."""

    model_config = SettingsConfigDict(
        env_prefix="BANKSTREAM_KAFKA_", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    bootstrap_servers: str = Field("127.0.0.1:9092", description="host:port of one or more brokers, comma separated")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    sasl_username: str | None = None
    sasl_password: SecretStr | None = None
    ssl_cafile: Path | None = None
    ssl_certfile: Path | None = None
    ssl_keyfile: Path | None = None
    replication_factor: Positive = Field(1, description="of topics that the application creates; 3 on a real cluster")
    partitions: Positive = Field(
        4,
        validation_alias="BANKSTREAM_TOPIC_PARTITIONS",
        description="of every co-partitioned topic; never change it on live data",
    )


class EngineSettings(_Section):
    """The streaming core."""

    model_config = SettingsConfigDict(
        env_prefix="BANKSTREAM_ENGINE_", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    state_dir: Path = Field(
        Path(".bankstream/state"), description="RocksDB directories; a cache of the changelogs, safe to delete"
    )
    linger_ms: Annotated[int, Field(ge=0)] = Field(
        5, description="pause between two fetches: more is fewer, larger transactions"
    )
    max_batch_records: Positive = Field(5_000, description="of one topic and fetch; bounds memory and transaction time")
    max_record_bytes: Positive = Field(
        16 << 20, description="largest record written or read; topics are created with this limit"
    )
    transaction_timeout_ms: Positive = 20_000
    session_timeout_ms: Positive = 10_000
    heartbeat_interval_ms: Positive = 1_000
    restore_timeout_s: Positive = Field(600, description="a partition that is not open after this long ends the worker")
    drain_timeout_s: Positive = Field(10, description="a rebalance or a stop waits this long for a busy partition")
    offset_commit_interval_ms: Positive = Field(1_000, description="group offsets are for lag monitoring only")
    punctuate_interval_ms: Positive = Field(1_000, description="how often time-driven work such as expiry is looked at")
    memory_entries: Positive = Field(
        10_000, description="derived objects kept per partition, least recently used go first"
    )
    block_cache_mb: Positive = Field(32, description="RocksDB block cache per worker process")


class PostgresSettings(_Section):
    """The source database, as the application's own role sees it."""

    model_config = SettingsConfigDict(
        env_prefix="BANKSTREAM_POSTGRES_", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    host: str = "127.0.0.1"
    port: Port = 5432
    dbname: str = "bank"
    user: str = "bank_app"
    password: SecretStr | None = Field(None, description="unset: PGPASSFILE or a trusted connection")
    sslmode: Literal["disable", "prefer", "require", "verify-ca", "verify-full"] = "prefer"


class SourceSettings(PostgresSettings):
    """The accounts that set up, capture and audit the source database, beside the application's own."""

    admin_user: str | None = Field(
        None, description="makes the roles and the database; unset: they exist already, and only the owner is needed"
    )
    admin_password: SecretStr | None = None
    admin_dbname: str = Field("postgres", description="the database the administrator connects to")
    owner_user: str = Field("bank_owner", description="owns the tables and runs the migrations")
    owner_password: SecretStr | None = None
    replication_user: str = Field("bank_replication", description="Debezium's")
    replication_password: SecretStr | None = None
    reader_user: str = Field("bank_reader", description="reads for reconcile and for watching the replication slot")
    reader_password: SecretStr | None = None


class S3Settings(_Section):
    """The lake."""

    model_config = SettingsConfigDict(
        env_prefix="BANKSTREAM_S3_", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    bucket: str = "bank-lake"
    prefix: str = Field("", description="folder inside the bucket, without slashes at its ends")
    endpoint_url: str | None = Field(None, description="unset: Amazon S3")
    region: str = "us-east-1"
    access_key_id: str | None = Field(None, description="unset: the AWS default chain (role, profile, environment)")
    secret_access_key: SecretStr | None = None
    timeout_s: Positive = 30
    max_attempts: Positive = 8


class LakeSettings(_Section):
    """How records are cut into objects."""

    model_config = SettingsConfigDict(
        env_prefix="BANKSTREAM_LAKE_", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    max_rows: Positive = 50_000
    max_bytes: Positive = Field(16 << 20, description="of the uncompressed lines of one object")
    max_age_ms: Positive = Field(500, description="a record waits at most this long for its object to be cut")
    compression_level: Annotated[int, Field(ge=1, le=19)] = 3
    max_uploads: Positive = Field(16, description="objects in flight per worker")


class SnowflakeSettings(_Section):
    """The warehouse: a Snowflake account, or any server of its protocol."""

    model_config = SettingsConfigDict(
        env_prefix="BANKSTREAM_SNOWFLAKE_", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    account: str = "local"
    user: str = "bankstream"
    password: SecretStr | None = None
    private_key_path: Path | None = Field(
        None, description="PKCS#8 key for key-pair authentication; preferred to a password"
    )
    private_key_passphrase: SecretStr | None = None
    host: str | None = Field(None, description="unset: <account>.snowflakecomputing.com")
    port: Port = 443
    protocol: Literal["https", "http"] = "https"
    database: str = "BANK"
    warehouse: str | None = None
    role: str | None = None
    stage: str = Field("LAKE", description="external stage over the lake's bucket, in schema BRONZE")
    storage_integration: str | None = Field(
        None, description="lets the stage read the bucket; unset: with the keys of BANKSTREAM_S3_*"
    )
    login_timeout_s: Positive = 30
    network_timeout_s: Positive = 120


class WarehouseSettings(_Section):
    """How objects are loaded."""

    model_config = SettingsConfigDict(
        env_prefix="BANKSTREAM_WAREHOUSE_", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    load_interval_ms: Annotated[int, Field(ge=0)] = Field(
        250, description="pause between two loads: more is fewer, larger COPYs"
    )
    max_objects: Annotated[int, Field(gt=0, le=1_000)] = Field(
        1_000, description="of one load (COPY takes at most 1,000 names)"
    )
    max_bytes: Positive = Field(
        64 << 20, description="compressed, of the objects of one load; one object may be larger"
    )
    sweep_interval_ms: Positive = Field(
        30_000, description="how often the lake is listed for objects whose announcement was lost"
    )


class CaptureSettings(_Section):
    """Which tables of the source are captured."""

    model_config = SettingsConfigDict(env_prefix="BANKSTREAM_", extra="ignore", frozen=True, hide_input_in_errors=True)

    tables_file: Path | None = Field(None, description="captured.toml; unset: the one shipped with the application")


class ConnectSettings(_Section):
    """Kafka Connect's REST interface."""

    model_config = SettingsConfigDict(
        env_prefix="BANKSTREAM_CONNECT_", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    url: str = "http://127.0.0.1:8083"
    connector: str = "bank"
    timeout_s: Positive = Field(120, description="a connector that does not stream after this long is an error")


class WatchSettings(_Section):
    """The watcher of the capture."""

    model_config = SettingsConfigDict(
        env_prefix="BANKSTREAM_WATCH_", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    interval_s: Annotated[float, Field(gt=0)] = Field(2.0, description="between two looks at connector and slot")
    longest_pause_s: Annotated[float, Field(gt=0)] = Field(
        60.0, description="between two restarts of a connector that goes on failing; the first are closer"
    )


class WorkerSettings(_Section):
    """A worker process."""

    model_config = SettingsConfigDict(env_prefix="BANKSTREAM_", extra="ignore", frozen=True, hide_input_in_errors=True)

    rules_file: Path | None = Field(None, description="rules.toml; unset: the one shipped with the application")
    metrics_host: str = "127.0.0.1"
    metrics_port: Annotated[int, Field(ge=0, lt=65536)] = Field(0, description="Prometheus metrics; 0 turns them off")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["json", "text"] = "text"
    waiting_max_records: Positive = Field(
        10_000, description="transactions of one partition that wait for their account; more become dead letters"
    )
    waiting_max_age_s: Positive = Field(
        3_600, description="a transaction whose account has not come after this long becomes a dead letter"
    )
    velocity_cached_events: Positive = Field(
        100_000, description="transactions whose customers' histories a partition keeps in memory; more are read again"
    )
    untracked_columns: Annotated[tuple[str, ...], NoDecode, BeforeValidator(split_commas)] = Field(
        ("balance", "updated_at"), description="comma separated; a change to these alone opens no SCD2 version"
    )


class StackSettings(_Section):
    """The local stack: where it lives and what of it the user wants to decide."""

    model_config = SettingsConfigDict(
        env_prefix="BANKSTREAM_STACK_", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    home: Path | None = Field(
        None,
        validation_alias="BANKSTREAM_HOME",
        description="data, logs and secrets of the stack; unset: .bankstream beside the project",
    )
    cache: Path | None = Field(None, description="downloads, shared by all stacks; unset: bankstream in XDG_CACHE_HOME")
    maven_url: str | None = Field(None, description="mirror of Maven's central repository to fetch the jars from")
    start_timeout_s: Positive = Field(180, description="a part that is not ready after this long is an error")
    streams_workers: Annotated[int, Field(gt=0, le=16)] = Field(1, description="streams workers side by side")
    port_postgres: Port | None = Field(None, description="pin a port; unset: a free one, kept for later runs")
    port_kafka: Port | None = None
    port_connect: Port | None = None
    port_s3: Port | None = None
    port_warehouse: Port | None = None


class WarehouseServerSettings(_Section):
    """The local stack's own warehouse server. Set by the stack, not by people."""

    model_config = SettingsConfigDict(
        env_prefix="BANKSTREAM_WAREHOUSE_SERVER_", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 only inside a container's own network")
    port: Port
    directory: Path = Field(description="DuckDB files, one a database")
    user: str
    password: SecretStr
    memory_mb: Positive = Field(2_048, description="DuckDB's memory; more spills to disk")
    max_sessions: Positive = Field(256, description="the one unused for longest is closed first")
    idle_transaction_s: Positive = Field(30, description="an open transaction of a silent client is rolled back")
    s3_endpoint_url: str | None = None
    s3_region: str = "us-east-1"
    s3_access_key_id: str | None = None
    s3_secret_access_key: SecretStr | None = None


Section = TypeVar("Section", bound=BaseSettings)


@cache
def load(section: type[Section]) -> Section:
    """Read one section from the environment, once. SettingsError names every variable that cannot be used, and why."""
    return read(section, {})


def read(section: type[Section], variables: Mapping[str, str]) -> Section:
    """One section as a process with these variables on top of the environment would read it. SettingsError as `load`."""
    names = {
        str(field.validation_alias or name): _variable(section, str(field.validation_alias or name))
        for name, field in section.model_fields.items()
    }
    values: dict[str, Any] = {name: variables[variable] for name, variable in names.items() if variable in variables}
    try:
        return section(**values)
    except ValidationError as error:
        problems = "; ".join(f"{_variable(section, str(e['loc'][0]))}: {e['msg']}" for e in error.errors())
        raise SettingsError(f"settings: {problems}. Correct the environment and start again.") from None


def _variable(section: type[BaseSettings], field: str) -> str:
    """The environment variable behind a field (or behind the alias that pydantic reports instead of it)."""
    if field.startswith("BANKSTREAM_"):
        return field
    return f"{section.model_config.get('env_prefix', '')}{field}".upper()

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


class EnvironmentSettings(BaseSettings):
    """Settings that share a prefix of environment variables. Docstrings and descriptions become docs/CONFIGURATION.md."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)


class KafkaSettings(EnvironmentSettings, env_prefix="BANKSTREAM_KAFKA_"):
    """How to reach Kafka."""

    bootstrap_servers: str = Field("127.0.0.1:9092", description="host:port of one or more brokers, comma separated")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="how brokers are spoken to: without or with TLS, without or with a login"
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="how to log in, with SASL_*"
    )
    sasl_username: str | None = Field(None, description="the worker's own, with SASL_*")
    sasl_password: SecretStr | None = Field(None, description="its password")
    ssl_cafile: Path | None = Field(
        None, description="PEM of who signed the brokers' certificates; unset: the system's"
    )
    ssl_certfile: Path | None = Field(None, description="PEM of the worker's own certificate, for mutual TLS")
    ssl_keyfile: Path | None = Field(None, description="PEM of that certificate's key")
    replication_factor: Positive = Field(1, description="of topics that the application creates; 3 on a real cluster")
    partitions: Positive = Field(
        4,
        validation_alias="BANKSTREAM_TOPIC_PARTITIONS",
        description="of every co-partitioned topic; never change it on live data",
    )


class EngineSettings(EnvironmentSettings, env_prefix="BANKSTREAM_ENGINE_"):
    """The streaming core."""

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
    transaction_timeout_ms: Positive = Field(
        20_000,
        description="Kafka aborts a transaction that is open for longer: so long can a dead worker's hold up readers",
    )
    session_timeout_ms: Positive = Field(
        10_000, description="a worker that is silent for longer has its partitions taken away"
    )
    heartbeat_interval_ms: Positive = Field(1_000, description="between two signs of life to the group")
    restore_timeout_s: Positive = Field(600, description="a partition that is not open after this long ends the worker")
    drain_timeout_s: Positive = Field(10, description="a rebalance or a stop waits this long for a busy partition")
    offset_commit_interval_ms: Positive = Field(1_000, description="group offsets are for lag monitoring only")
    punctuate_interval_ms: Positive = Field(1_000, description="how often time-driven work such as expiry is looked at")
    memory_entries: Positive = Field(
        10_000, description="derived objects kept per partition, least recently used go first"
    )
    block_cache_mb: Positive = Field(32, description="RocksDB block cache per worker process")


class PostgresSettings(EnvironmentSettings, env_prefix="BANKSTREAM_POSTGRES_"):
    """The source database, as the application's own role sees it."""

    host: str = Field("127.0.0.1", description="its server")
    port: Port = Field(5432, description="its port")
    dbname: str = Field("bank", description="the bank's database")
    user: str = Field("bank_app", description="the role that the simulated bank writes with")
    password: SecretStr | None = Field(None, description="unset: PGPASSFILE or a trusted connection")
    sslmode: Literal["disable", "prefer", "require", "verify-ca", "verify-full"] = Field(
        "prefer", description="libpq's meaning of it; `verify-full` on a network that is not yours alone"
    )


class SourceSettings(PostgresSettings):
    """The accounts that set up, capture and audit the source database, beside the application's own."""

    admin_user: str | None = Field(
        None, description="makes the roles and the database; unset: they exist already, and only the owner is needed"
    )
    admin_password: SecretStr | None = Field(None, description="its password")
    admin_dbname: str = Field("postgres", description="the database the administrator connects to")
    owner_user: str = Field("bank_owner", description="owns the tables and runs the migrations")
    owner_password: SecretStr | None = Field(None, description="its password")
    replication_user: str = Field("bank_replication", description="Debezium's")
    replication_password: SecretStr | None = Field(None, description="its password")
    reader_user: str = Field("bank_reader", description="reads for reconcile and for watching the replication slot")
    reader_password: SecretStr | None = Field(None, description="its password")


class S3Settings(EnvironmentSettings, env_prefix="BANKSTREAM_S3_"):
    """The lake."""

    bucket: str = Field("bank-lake", description="the lake's bucket")
    prefix: str = Field("", description="folder inside the bucket, without slashes at its ends")
    endpoint_url: str | None = Field(None, description="unset: Amazon S3")
    region: str = Field("us-east-1", description="the bucket's")
    access_key_id: str | None = Field(None, description="unset: the AWS default chain (role, profile, environment)")
    secret_access_key: SecretStr | None = Field(None, description="of that key id")
    timeout_s: Positive = Field(30, description="one request")
    max_attempts: Positive = Field(8, description="of one request, with growing pauses; then the worker ends with 72")


class LakeSettings(EnvironmentSettings, env_prefix="BANKSTREAM_LAKE_"):
    """How records are cut into objects."""

    max_rows: Positive = Field(50_000, description="of one object")
    max_bytes: Positive = Field(16 << 20, description="of the uncompressed lines of one object")
    max_age_ms: Positive = Field(500, description="a record waits at most this long for its object to be cut")
    compression_level: Annotated[int, Field(ge=1, le=19)] = Field(3, description="of zstd")
    max_uploads: Positive = Field(16, description="objects in flight per worker")


class SnowflakeSettings(EnvironmentSettings, env_prefix="BANKSTREAM_SNOWFLAKE_"):
    """The warehouse: a Snowflake account, or any server of its protocol."""

    account: str = Field("local", description="account identifier, as in `myorg-myaccount`")
    user: str = Field("bankstream", description="the service user of this process")
    password: SecretStr | None = Field(None, description="for the local server; with an account use a key")
    private_key_path: Path | None = Field(
        None, description="PKCS#8 key for key-pair authentication; preferred to a password"
    )
    private_key_passphrase: SecretStr | None = Field(None, description="of that key")
    host: str | None = Field(None, description="unset: <account>.snowflakecomputing.com")
    port: Port = Field(443, description="of the host")
    protocol: Literal["https", "http"] = Field("https", description="`http` for the local server alone")
    database: str = Field("BANK", description="with the schemas BRONZE, SILVER and GOLD")
    warehouse: str | None = Field(None, description="compute; unset: the user's default")
    role: str | None = Field(None, description="unset: the user's default")
    stage: str = Field("LAKE", description="external stage over the lake's bucket, in schema BRONZE")
    storage_integration: str | None = Field(
        None, description="lets the stage read the bucket; unset: with the keys of BANKSTREAM_S3_*"
    )
    login_timeout_s: Positive = Field(30, description="for a session")
    network_timeout_s: Positive = Field(120, description="for a statement's answer, retries included")


class WarehouseSettings(EnvironmentSettings, env_prefix="BANKSTREAM_WAREHOUSE_"):
    """How objects are loaded."""

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
    sink: Literal["copy", "streaming"] = Field(
        "copy", description="COPY in a warehouse of yours, or Snowpipe Streaming (an account with a key pair)"
    )
    streaming_request_bytes: Annotated[int, Field(gt=0, le=16_000_000)] = Field(
        4_000_000, description="uncompressed, of the rows of one request"
    )
    streaming_commit_timeout_s: Positive = Field(
        120, description="rows that are sent and not committed for longer are an error: the channels are opened anew"
    )
    streaming_ledger_interval_ms: Annotated[int, Field(ge=0)] = Field(
        10_000, description="how far the ledger's table may stay behind the channels: moving it takes a warehouse"
    )


class CaptureSettings(EnvironmentSettings, env_prefix="BANKSTREAM_"):
    """Which tables of the source are captured."""

    tables_file: Path | None = Field(None, description="captured.toml; unset: the one shipped with the application")


class ConnectSettings(EnvironmentSettings, env_prefix="BANKSTREAM_CONNECT_"):
    """Kafka Connect's REST interface."""

    url: str = Field("http://127.0.0.1:8083", description="of any worker of the Connect cluster")
    connector: str = Field("bank", description="the connector's name")
    timeout_s: Positive = Field(120, description="a connector that does not stream after this long is an error")


class WatchSettings(EnvironmentSettings, env_prefix="BANKSTREAM_WATCH_"):
    """The watcher of the capture."""

    interval_s: Annotated[float, Field(gt=0)] = Field(2.0, description="between two looks at connector and slot")
    longest_pause_s: Annotated[float, Field(gt=0)] = Field(
        60.0, description="between two restarts of a connector that goes on failing; the first are closer"
    )


class WorkerSettings(EnvironmentSettings, env_prefix="BANKSTREAM_"):
    """A worker process."""

    rules_file: Path | None = Field(None, description="rules.toml; unset: the one shipped with the application")
    metrics_host: str = Field("127.0.0.1", description="address that metrics are served on; nobody logs in to them")
    metrics_port: Annotated[int, Field(ge=0, lt=65536)] = Field(0, description="Prometheus metrics; 0 turns them off")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="what is logged")
    log_format: Literal["json", "text"] = Field("text", description="`json`: one object a line, for collectors")
    waiting_max_records: Positive = Field(
        10_000, description="transactions of one partition that wait for their account; more become dead letters"
    )
    waiting_max_age_s: Positive = Field(
        3_600, description="a transaction whose account has not come after this long becomes a dead letter"
    )
    velocity_cached_events: Positive = Field(
        100_000, description="transactions whose customers' histories a partition keeps in memory; more are read again"
    )
    native: bool = Field(
        default=True, description="use the native library where it is built; `false`: Python alone, the same and slower"
    )
    untracked_columns: Annotated[tuple[str, ...], NoDecode, BeforeValidator(split_commas)] = Field(
        ("balance", "updated_at"), description="comma separated; a change to these alone opens no SCD2 version"
    )


class ApiSettings(EnvironmentSettings, env_prefix="BANKSTREAM_API_"):
    """The lookup API of a streams worker."""

    host: str = Field(
        "127.0.0.1", description="address to listen on; another than loopback needs TLS or allow_plaintext"
    )
    port: Annotated[int, Field(ge=0, lt=65536)] = Field(0, description="0 turns the API off")
    url: str | None = Field(
        None, description="where other workers reach this one; unset: made from host, port and tls_certfile"
    )
    tokens_file: Path | None = Field(None, description="who may ask what, tokens as hashes; needed when the API is on")
    audit_file: Path | None = Field(None, description="a JSON line a lookup; unset: standard error")
    tls_certfile: Path | None = Field(None, description="certificate chain to serve HTTPS with; unset: HTTP")
    tls_keyfile: Path | None = Field(None, description="its private key; unset: in the same file")
    tls_cafile: Path | None = Field(
        None, description="by which other workers' certificates are checked; unset: the system's"
    )
    allow_plaintext: bool = Field(
        default=False, description="serve without TLS on other addresses than loopback: behind a proxy that has it"
    )
    rate_per_s: Positive = Field(
        200, description="lookups of one token at this worker, unless its entry says otherwise"
    )
    total_per_s: Positive = Field(
        400,
        description="lookups of all tokens at this worker; more are answered with 503, so that the stream has its time",
    )
    max_connections: Positive = Field(256, description="further ones are answered with 503")
    max_streams: Positive = Field(16, description="live alert streams at a time")
    timeout_s: Positive = Field(5, description="a lookup that takes longer is answered with 503")
    history_timeout_s: Positive = Field(30, description="likewise, of versions, which the warehouse is asked for")
    history_sessions: Positive = Field(2, description="sessions at the warehouse, and so many questions at a time")
    max_answer_bytes: Positive = Field(1 << 20, description="larger ones are refused, with what to narrow")
    velocity_max_events: Positive = Field(
        10_000, description="transactions read for one answer; windows with more are left out of it, and it says so"
    )
    alerts_kept: Positive = Field(1_000, description="recent alerts that every worker has in memory")


class StackSettings(EnvironmentSettings, env_prefix="BANKSTREAM_STACK_"):
    """The local stack: where it lives and what of it the user wants to decide."""

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
    port_kafka: Port | None = Field(None, description="likewise")
    port_connect: Port | None = Field(None, description="likewise")
    port_s3: Port | None = Field(None, description="likewise")
    port_warehouse: Port | None = Field(None, description="likewise")


class DashboardSettings(EnvironmentSettings, env_prefix="BANKSTREAM_DASHBOARD_"):
    """The dashboard; it finds the warehouse by BANKSTREAM_SNOWFLAKE_*."""

    show_personal_data: bool = Field(
        default=False, description="show customers' names, addresses and the like instead of masking them"
    )


class WarehouseServerSettings(EnvironmentSettings, env_prefix="BANKSTREAM_WAREHOUSE_SERVER_"):
    """The local stack's own warehouse server. Set by the stack, not by people."""

    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 only inside a container's own network")
    port: Port = Field(description="to listen on")
    directory: Path = Field(description="DuckDB files, one a database")
    user: str = Field(description="who may log in")
    password: SecretStr = Field(description="with which password")
    memory_mb: Positive = Field(2_048, description="DuckDB's memory; more spills to disk")
    max_sessions: Positive = Field(256, description="the one unused for longest is closed first")
    idle_transaction_s: Positive = Field(30, description="an open transaction of a silent client is rolled back")
    s3_endpoint_url: str | None = Field(None, description="the S3 server that stages are on")
    s3_region: str = Field("us-east-1", description="its region")
    s3_access_key_id: str | None = Field(None, description="a key for it")
    s3_secret_access_key: SecretStr | None = Field(None, description="of that key id")


SectionT = TypeVar("SectionT", bound=BaseSettings)


@cache
def load(section: type[SectionT]) -> SectionT:
    """Read one section from the environment, once. SettingsError names every variable that cannot be used, and why."""
    return read(section, {})


def read(section: type[SectionT], variables: Mapping[str, str]) -> SectionT:
    """One section as a process with these variables on top of the environment would read it. SettingsError as `load`."""
    names = {
        str(field.validation_alias or name): environment_name(section, str(field.validation_alias or name))
        for name, field in section.model_fields.items()
    }
    values: dict[str, Any] = {name: variables[known] for name, known in names.items() if known in variables}
    try:
        return section(**values)
    except ValidationError as error:
        problems = "; ".join(f"{environment_name(section, str(e['loc'][0]))}: {e['msg']}" for e in error.errors())
        raise SettingsError(f"settings: {problems}. Correct the environment and start again.") from None


def environment_name(section: type[BaseSettings], field: str) -> str:
    """The environment variable behind a field (or behind the alias that pydantic reports instead of it)."""
    if field.startswith("BANKSTREAM_"):
        return field
    return f"{section.model_config.get('env_prefix', '')}{field}".upper()

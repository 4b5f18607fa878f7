"""Defines every setting of the application. Settings are environment variables with the prefix BANKSTREAM_, checked at start."""

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
    """Splits `a, b` into `("a", "b")`. Returns other values unchanged for pydantic to check."""
    return tuple(part.strip() for part in text.split(",") if part.strip()) if isinstance(text, str) else text


class EnvironmentSettings(BaseSettings):
    """Settings that share a prefix of environment variables. Docstrings and descriptions become docs/CONFIGURATION.md."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)


class KafkaSettings(EnvironmentSettings, env_prefix="BANKSTREAM_KAFKA_"):
    """The connection to Kafka, and the layout of topics."""

    bootstrap_servers: str = Field("127.0.0.1:9092", description="host:port of one or more brokers, comma separated")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="protocol of the brokers: with or without TLS (SSL), with or without a login (SASL)"
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="login mechanism, with SASL_*"
    )
    sasl_username: str | None = Field(None, description="the worker's user name, with SASL_*")
    sasl_password: SecretStr | None = Field(None, description="its password")
    ssl_cafile: Path | None = Field(
        None, description="PEM of the CAs of the brokers' certificates; unset: the system's"
    )
    ssl_certfile: Path | None = Field(None, description="PEM of the worker's certificate, for mutual TLS")
    ssl_keyfile: Path | None = Field(None, description="PEM of that certificate's private key")
    replication_factor: Positive = Field(
        1, description="replication factor of topics that the application creates; 3 on a real cluster"
    )
    partitions: Positive = Field(
        4,
        validation_alias="BANKSTREAM_TOPIC_PARTITIONS",
        description="partition count of every co-partitioned topic; never change it on live data",
    )


class EngineSettings(EnvironmentSettings, env_prefix="BANKSTREAM_ENGINE_"):
    """The stream processing engine."""

    state_dir: Path = Field(
        Path(".bankstream/state"),
        description="directory of the RocksDB stores; a cache of the changelogs, safe to delete while no worker runs",
    )
    linger_ms: Annotated[int, Field(ge=0)] = Field(
        5, description="pause between two fetches; a longer one gives fewer, larger transactions"
    )
    max_batch_records: Positive = Field(
        5_000, description="records of one topic in one fetch; limits memory and transaction time"
    )
    max_record_bytes: Positive = Field(
        16 << 20, description="largest record that is written or read; topics are created with this limit"
    )
    transaction_timeout_ms: Positive = Field(
        20_000,
        description="Kafka aborts a transaction that is open for longer; a dead worker's transaction delays readers at most this long",
    )
    session_timeout_ms: Positive = Field(
        10_000, description="a worker without a heartbeat for longer loses its partitions"
    )
    heartbeat_interval_ms: Positive = Field(1_000, description="interval between heartbeats to the consumer group")
    restore_timeout_s: Positive = Field(
        600, description="if a partition is not restored after this time, the worker ends"
    )
    drain_timeout_s: Positive = Field(
        10, description="a rebalance or a stop waits at most this long for a busy partition"
    )
    offset_commit_interval_ms: Positive = Field(
        1_000, description="interval of commits of consumer group offsets, which are for lag monitoring only"
    )
    punctuate_interval_ms: Positive = Field(1_000, description="interval of time-driven work such as expiry")
    memory_entries: Positive = Field(
        10_000, description="cached derived objects per partition; the least recently used are evicted first"
    )
    block_cache_mb: Positive = Field(32, description="RocksDB block cache per worker process")


class PostgresSettings(EnvironmentSettings, env_prefix="BANKSTREAM_POSTGRES_"):
    """The source database, with the account of the bank's software."""

    host: str = Field("127.0.0.1", description="the server's host")
    port: Port = Field(5432, description="the server's port")
    dbname: str = Field("bank", description="the bank's database")
    user: str = Field("bank_app", description="the account with which the simulated bank writes")
    password: SecretStr | None = Field(None, description="unset: PGPASSFILE or a trusted connection")
    sslmode: Literal["disable", "prefer", "require", "verify-ca", "verify-full"] = Field(
        "prefer", description="libpq's sslmode; use `verify-full` on a network that others share"
    )


class SourceSettings(PostgresSettings):
    """The other accounts of the source database: for setup, capture and reconciliation."""

    admin_user: str | None = Field(None, description="creates the roles and the database; unset: they exist already")
    admin_password: SecretStr | None = Field(None, description="its password")
    admin_dbname: str = Field("postgres", description="the database that the administrator connects to")
    owner_user: str = Field("bank_owner", description="owns the tables and runs the migrations")
    owner_password: SecretStr | None = Field(None, description="its password")
    replication_user: str = Field("bank_replication", description="the account of Debezium")
    replication_password: SecretStr | None = Field(None, description="its password")
    reader_user: str = Field(
        "bank_reader", description="read-only account, for `reconcile` and for watching the replication slot"
    )
    reader_password: SecretStr | None = Field(None, description="its password")


class S3Settings(EnvironmentSettings, env_prefix="BANKSTREAM_S3_"):
    """The S3 bucket of the lake."""

    bucket: str = Field("bank-lake", description="the lake's bucket")
    prefix: str = Field("", description="folder inside the bucket, without slashes at its ends")
    endpoint_url: str | None = Field(None, description="unset: Amazon S3")
    region: str = Field("us-east-1", description="the bucket's region")
    access_key_id: str | None = Field(None, description="unset: the AWS default chain (role, profile, environment)")
    secret_access_key: SecretStr | None = Field(None, description="the secret key of that id")
    timeout_s: Positive = Field(30, description="timeout of one request")
    max_attempts: Positive = Field(
        8, description="attempts of one request, with growing pauses; then the worker exits with code 72"
    )


class LakeSettings(EnvironmentSettings, env_prefix="BANKSTREAM_LAKE_"):
    """The size of the lake's objects."""

    max_rows: Positive = Field(50_000, description="records in one object")
    max_bytes: Positive = Field(16 << 20, description="uncompressed bytes of one object")
    max_age_ms: Positive = Field(500, description="an object is closed at most this long after its first record")
    compression_level: Annotated[int, Field(ge=1, le=19)] = Field(3, description="zstd compression level")
    max_uploads: Positive = Field(16, description="concurrent uploads per worker")


class SnowflakeSettings(EnvironmentSettings, env_prefix="BANKSTREAM_SNOWFLAKE_"):
    """The warehouse: a Snowflake account, or any server of its protocol."""

    account: str = Field("local", description="account identifier, as in `myorg-myaccount`")
    user: str = Field("bankstream", description="the service user of this process")
    password: SecretStr | None = Field(
        None, description="password of the local server; with a Snowflake account use a key"
    )
    private_key_path: Path | None = Field(
        None, description="PKCS#8 key for key-pair authentication; preferred to a password"
    )
    private_key_passphrase: SecretStr | None = Field(None, description="passphrase of that key")
    host: str | None = Field(None, description="unset: <account>.snowflakecomputing.com")
    port: Port = Field(443, description="the host's port")
    protocol: Literal["https", "http"] = Field("https", description="`http` for the local server only")
    database: str = Field("BANK", description="the database with the schemas BRONZE, SILVER and GOLD")
    warehouse: str | None = Field(None, description="the virtual warehouse; unset: the user's default")
    role: str | None = Field(None, description="the role; unset: the user's default")
    stage: str = Field("LAKE", description="external stage over the lake's bucket, in schema BRONZE")
    storage_integration: str | None = Field(
        None,
        description="integration with which the stage reads the bucket; unset: the stage uses the keys of BANKSTREAM_S3_*",
    )
    login_timeout_s: Positive = Field(30, description="timeout of a login")
    network_timeout_s: Positive = Field(120, description="timeout of a statement, retries included")


class WarehouseSettings(EnvironmentSettings, env_prefix="BANKSTREAM_WAREHOUSE_"):
    """The loading of the lake's objects into the warehouse."""

    load_interval_ms: Annotated[int, Field(ge=0)] = Field(
        250, description="pause between two loads; a longer one gives fewer, larger COPYs"
    )
    max_objects: Annotated[int, Field(gt=0, le=1_000)] = Field(
        1_000, description="objects in one load (COPY takes at most 1,000 names)"
    )
    max_bytes: Positive = Field(
        64 << 20, description="compressed bytes of the objects of one load; a single object may be larger"
    )
    sweep_interval_ms: Positive = Field(
        30_000, description="how often the lake is listed for objects whose announcement was lost"
    )
    sink: Literal["copy", "streaming"] = Field(
        "copy",
        description="`copy`: COPY in a virtual warehouse; `streaming`: Snowpipe Streaming, which needs a Snowflake account and a key pair",
    )
    streaming_request_bytes: Annotated[int, Field(gt=0, le=16_000_000)] = Field(
        4_000_000, description="uncompressed bytes of the rows of one request"
    )
    streaming_commit_timeout_s: Positive = Field(
        120, description="if rows that were sent are not committed after this time, the channels are reopened"
    )
    streaming_ledger_interval_ms: Annotated[int, Field(ge=0)] = Field(
        10_000,
        description="how long the ledger's table may lag behind the channels; updating it uses a virtual warehouse",
    )


class CaptureSettings(EnvironmentSettings, env_prefix="BANKSTREAM_"):
    """The captured tables of the source."""

    tables_file: Path | None = Field(None, description="path of captured.toml; unset: the shipped file")


class ConnectSettings(EnvironmentSettings, env_prefix="BANKSTREAM_CONNECT_"):
    """Kafka Connect's REST interface."""

    url: str = Field("http://127.0.0.1:8083", description="URL of any worker of the Connect cluster")
    connector: str = Field("bank", description="the connector's name")
    timeout_s: Positive = Field(120, description="it is an error if the connector does not stream after this time")


class WatchSettings(EnvironmentSettings, env_prefix="BANKSTREAM_WATCH_"):
    """The watcher of the connector and the replication slot."""

    interval_s: Annotated[float, Field(gt=0)] = Field(
        2.0, description="interval between two checks of connector and slot"
    )
    longest_pause_s: Annotated[float, Field(gt=0)] = Field(
        60.0,
        description="longest pause between two restarts of a connector that keeps failing; the first pauses are shorter",
    )


class WorkerSettings(EnvironmentSettings, env_prefix="BANKSTREAM_"):
    """A worker process."""

    rules_file: Path | None = Field(None, description="path of rules.toml; unset: the shipped file")
    metrics_host: str = Field("127.0.0.1", description="address that metrics are served on, without authentication")
    metrics_port: Annotated[int, Field(ge=0, lt=65536)] = Field(
        0, description="port of Prometheus metrics; 0 turns them off"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="lowest level that is logged")
    log_format: Literal["json", "text"] = Field(
        "text", description="`json`: one JSON object per line, for log collectors"
    )
    waiting_max_records: Positive = Field(
        10_000, description="transactions of one partition that may wait for their account; more become dead letters"
    )
    waiting_max_age_s: Positive = Field(
        3_600, description="a transaction whose account has not arrived after this time becomes a dead letter"
    )
    velocity_cache_mb: Positive = Field(
        64, description="memory, per partition, for customers' histories used last; others are read from the store"
    )
    untracked_columns: Annotated[tuple[str, ...], NoDecode, BeforeValidator(split_commas)] = Field(
        ("balance", "updated_at"), description="comma separated columns; a change to these alone opens no SCD2 version"
    )


class ApiSettings(EnvironmentSettings, env_prefix="BANKSTREAM_API_"):
    """The lookup API of a streams worker."""

    host: str = Field("127.0.0.1", description="address to listen on; any but loopback needs TLS or allow_plaintext")
    port: Annotated[int, Field(ge=0, lt=65536)] = Field(0, description="port of the API; 0 turns it off")
    url: str | None = Field(
        None, description="URL at which other workers reach this one; unset: derived from host, port and tls_certfile"
    )
    tokens_file: Path | None = Field(
        None, description="hashes of the tokens and their permissions; required when the API is on"
    )
    audit_file: Path | None = Field(None, description="audit log, one JSON line per lookup; unset: standard error")
    tls_certfile: Path | None = Field(None, description="certificate chain to serve HTTPS with; unset: HTTP")
    tls_keyfile: Path | None = Field(None, description="private key of the certificate; unset: in the same file")
    tls_cafile: Path | None = Field(
        None, description="authorities for checking other workers' certificates; unset: the system's"
    )
    allow_plaintext: bool = Field(
        default=False, description="serve without TLS on other addresses than loopback, behind a proxy with TLS"
    )
    rate_per_s: Positive = Field(
        200, description="lookups per second of one token at this worker, unless the token's entry has another limit"
    )
    total_per_s: Positive = Field(
        400,
        description="lookups per second of all tokens at this worker; more are answered with 503, to protect stream processing",
    )
    max_connections: Positive = Field(256, description="open connections; more are answered with 503")
    max_streams: Positive = Field(16, description="concurrent live alert streams")
    timeout_s: Positive = Field(5, description="a lookup that takes longer is answered with 503")
    history_timeout_s: Positive = Field(30, description="likewise, for lookups of versions, which query the warehouse")
    history_sessions: Positive = Field(
        2, description="sessions with the warehouse, which is also the number of concurrent queries"
    )
    max_answer_bytes: Positive = Field(
        1 << 20, description="larger answers are refused, with a hint how to narrow the lookup"
    )
    velocity_max_events: Positive = Field(
        10_000, description="transactions read for one answer; it omits windows with more, and says so"
    )
    alerts_kept: Positive = Field(1_000, description="recent alerts that every worker keeps in memory")


class StackSettings(EnvironmentSettings, env_prefix="BANKSTREAM_STACK_"):
    """The local stack: its directories, ports and number of workers."""

    home: Path | None = Field(
        None,
        validation_alias="BANKSTREAM_HOME",
        description="data, logs and secrets of the stack; unset: .bankstream beside the project",
    )
    cache: Path | None = Field(None, description="downloads, shared by all stacks; unset: bankstream in XDG_CACHE_HOME")
    maven_url: str | None = Field(None, description="mirror of Maven's central repository for downloading the jars")
    start_timeout_s: Positive = Field(180, description="it is an error if a part is not ready after this time")
    streams_workers: Annotated[int, Field(gt=0, le=16)] = Field(1, description="number of streams workers")
    port_postgres: Port | None = Field(None, description="fixed port; unset: a free one, kept for later runs")
    port_kafka: Port | None = Field(None, description="likewise")
    port_connect: Port | None = Field(None, description="likewise")
    port_s3: Port | None = Field(None, description="likewise")
    port_warehouse: Port | None = Field(None, description="likewise")


class DashboardSettings(EnvironmentSettings, env_prefix="BANKSTREAM_DASHBOARD_"):
    """The dashboard. It connects to the warehouse with BANKSTREAM_SNOWFLAKE_*."""

    show_personal_data: bool = Field(
        default=False, description="show customers' names, addresses and the like instead of masking them"
    )


class WarehouseServerSettings(EnvironmentSettings, env_prefix="BANKSTREAM_WAREHOUSE_SERVER_"):
    """The local stack's warehouse server. The stack sets these."""

    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 only inside a container's own network")
    port: Port = Field(description="port to listen on")
    directory: Path = Field(description="directory of the DuckDB files, one per database")
    user: str = Field(description="user that may log in")
    password: SecretStr = Field(description="password of that user")
    memory_mb: Positive = Field(2_048, description="memory of DuckDB; it spills the rest to disk")
    max_sessions: Positive = Field(256, description="open sessions; the one unused for longest is closed first")
    idle_transaction_s: Positive = Field(30, description="an open transaction of a silent client is rolled back")
    s3_endpoint_url: str | None = Field(None, description="the S3 server of the stages")
    s3_region: str = Field("us-east-1", description="region of that server")
    s3_access_key_id: str | None = Field(None, description="access key of that server")
    s3_secret_access_key: SecretStr | None = Field(None, description="the secret key of that id")


SectionT = TypeVar("SectionT", bound=BaseSettings)


@cache
def load(section: type[SectionT]) -> SectionT:
    """Reads one section from the environment, once. Raises SettingsError, which names every invalid variable and the reason."""
    return read(section, {})


def read(section: type[SectionT], variables: Mapping[str, str]) -> SectionT:
    """Reads one section from the environment, overridden by `variables`. Raises SettingsError like `load`."""
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
    """Returns the environment variable of a field, or of the alias that pydantic reports instead of it."""
    if field.startswith("BANKSTREAM_"):
        return field
    return f"{section.model_config.get('env_prefix', '')}{field}".upper()

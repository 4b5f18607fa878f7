"""`bankstream gaps`: lists accepted gaps, and accepts the loss of records so that processing can continue."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from sinks.base import ObjectStore
    from sinks.gaps import GapRecord

app = typer.Typer(help="List accepted gaps (records that are lost), or accept one that `bankstream doctor` has found.")
accept = typer.Typer(
    help="Accept a gap: record in the lake who accepted it and why, and continue after it. Only lost records can be accepted."
)
app.add_typer(accept, name="accept", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="print JSON for programs")]
Reason = Annotated[str, typer.Option(help="why the loss is accepted; kept forever")]
By = Annotated[str | None, typer.Option(help="who accepts it; default: the current user")]
Where = Annotated[str, typer.Argument(help="topic/partition, as `bankstream doctor` prints it")]


@app.command("list")
def list_gaps(as_json: Json = False) -> None:
    """List the accepted gaps."""
    import msgspec

    from sinks.gaps import gaps

    found = _with_store(gaps)
    if as_json:
        typer.echo(msgspec.json.encode(found))
        return
    for gap in found:
        typer.echo(f"{gap.accepted_at}  {gap.worker}  {_told(gap)}  {gap.accepted_by}: {gap.reason}")
    if not found:
        typer.echo("no gaps")


@accept.command()
def streams(where: Where, reason: Reason, by: By = None) -> None:
    """Accept the loss of records that the streams workers had not processed. Run it while no streams worker runs."""
    from app.config.settings import EngineSettings, KafkaSettings, load
    from app.config.topics import read_catalogue
    from app.operations.gaps import accept_streams
    from app.topology.partition_groups import groups

    kafka, engine = load(KafkaSettings), load(EngineSettings)
    owners = groups(read_catalogue({}), kafka)
    tp, decision = _partition(where), _decision(reason, by)
    for gap in _with_store(lambda store: accept_streams(store, kafka, engine, owners, tp, decision)):
        _tell(gap)


@accept.command()
def lake(
    where: Where,
    reason: Reason,
    by: By = None,
    topic_id: Annotated[
        str | None, typer.Option("--incarnation", help="the topic id of a topic that was deleted")
    ] = None,
) -> None:
    """Accept the loss of records that were never archived in the lake."""
    from app.config.settings import KafkaSettings, load
    from app.operations.gaps import accept_lake

    kafka = load(KafkaSettings)
    tp, decision = _partition(where), _decision(reason, by)
    _tell(_with_store(lambda store: accept_lake(store, kafka, tp, decision, topic_id=topic_id)))


@accept.command()
def capture(
    slot: Annotated[str, typer.Argument(help="the replication slot")],
    lsns: Annotated[str, typer.Option("--range", help="LSNs from..to, as `bankstream doctor` prints them")],
    reason: Reason,
    by: By = None,
) -> None:
    """Accept the loss of changes that were never captured from PostgreSQL.

    Also closes the open versions of tables that were empty when capture restarted.
    """
    import asyncio

    from app.config.settings import ConnectSettings, EngineSettings, KafkaSettings, load
    from app.config.topics import read_catalogue
    from app.operations.capture.connect import ConnectClient
    from app.operations.gaps import accept_capture, close_emptied
    from app.operations.provision.connector import is_as_provisioned

    kafka, engine, decision = load(KafkaSettings), load(EngineSettings), _decision(reason, by)
    catalogue = read_catalogue({})
    gap = _with_store(lambda store: accept_capture(store, kafka, slot, lsns, decision))
    _tell(gap)
    with ConnectClient(load(ConnectSettings)) as client:
        is_ours = is_as_provisioned(client, catalogue)
    if not is_ours:
        typer.echo(
            "The connector's configuration is not the one of `bankstream provision connector`, so its snapshot may lack tables, and it is "
            "unknown which tables were empty. `bankstream reconcile` names the surplus rows in the warehouse.",
            err=True,
        )
        return
    for table in asyncio.run(close_emptied(gap, catalogue.tables, kafka, engine)):
        typer.echo(f"{table} was empty when capture restarted: its open versions are closed as vanished")


def _with_store(work: "Callable[[ObjectStore], Awaitable[Any]]") -> Any:
    import asyncio

    from app.config.settings import S3Settings, load
    from sinks.sessions import open_store

    async def run() -> Any:
        store = open_store(load(S3Settings))
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(run())


def _partition(where: str) -> Any:
    from aiokafka import TopicPartition

    topic, _, number = where.rpartition("/")
    if not topic or not number.isdecimal():
        raise typer.BadParameter(f"{where!r} is not topic/partition", param_hint="WHERE")
    return TopicPartition(topic, int(number))


def _decision(reason: str, by: str | None) -> Any:
    import getpass
    from datetime import UTC, datetime

    from app.operations.gaps import Decision

    if not reason.strip():
        raise typer.BadParameter("must not be empty", param_hint="--reason")
    return Decision(reason.strip(), by or getpass.getuser(), datetime.now(UTC).isoformat(timespec="seconds"))


def _told(gap: "GapRecord") -> str:
    last = "its end" if gap.last is None else str(gap.last)
    return f"{gap.topic}/{gap.partition} {gap.first} to {last}, continues at {gap.resumes_at}"


def _tell(gap: "GapRecord") -> None:
    typer.echo(f"recorded as {gap.name}: {_told(gap)}")

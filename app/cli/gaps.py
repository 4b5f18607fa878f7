"""`bankstream gaps`: what is missing for good, and the decision to go on without it."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from sinks.base import ObjectStore
    from sinks.gaps import GapRecord

app = typer.Typer(
    help="Records that are lost for good: those accepted, and accepting one that `bankstream doctor` has found."
)
accept = typer.Typer(
    help="Write a gap down in the lake, with who decided what and why, and go on behind it. Only what is lost can be accepted."
)
app.add_typer(accept, name="accept", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="print JSON for programs")]
Reason = Annotated[str, typer.Option(help="why it is right to go on; kept for ever")]
By = Annotated[str | None, typer.Option(help="who decides; left out: the user of this session")]
Where = Annotated[str, typer.Argument(help="topic/partition, as doctor says")]


@app.command("list")
def list_gaps(as_json: Json = False) -> None:
    """List the gaps that were accepted."""
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
    """Records that the streams workers can no longer get. Run it while none of them is running."""
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
        str | None, typer.Option("--incarnation", help="Kafka's id of a topic that was deleted")
    ] = None,
) -> None:
    """Records that were never archived."""
    from app.config.settings import KafkaSettings, load
    from app.operations.gaps import accept_lake

    kafka = load(KafkaSettings)
    tp, decision = _partition(where), _decision(reason, by)
    _tell(_with_store(lambda store: accept_lake(store, kafka, tp, decision, topic_id=topic_id)))


@accept.command()
def capture(
    slot: Annotated[str, typer.Argument(help="the replication slot")],
    lsns: Annotated[str, typer.Option("--range", help="from..to in PostgreSQL's log, as doctor says")],
    reason: Reason,
    by: By = None,
) -> None:
    """Changes that were never captured from PostgreSQL. Closes the versions of tables that were empty when capture began anew."""
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
            "The connector is set otherwise than `bankstream provision connector` does, so its snapshot may have left tables out: whether "
            "one was empty cannot be told. `bankstream reconcile` names the rows that are too many.",
            err=True,
        )
        return
    for table in asyncio.run(close_emptied(gap, catalogue.tables, kafka, engine)):
        typer.echo(f"{table} was empty when capture began anew: its open versions are closed as vanished")


def _with_store(work: "Callable[[ObjectStore], Awaitable[Any]]") -> Any:
    import asyncio

    from app.config.settings import S3Settings, load
    from sinks.s3 import S3Store

    async def run() -> Any:
        store = S3Store(load(S3Settings))
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
        raise typer.BadParameter("say why", param_hint="--reason")
    return Decision(reason.strip(), by or getpass.getuser(), datetime.now(UTC).isoformat(timespec="seconds"))


def _told(gap: "GapRecord") -> str:
    last = "whatever it had" if gap.last is None else str(gap.last)
    return f"{gap.topic}/{gap.partition} {gap.first} to {last}, goes on at {gap.resumes_at}"


def _tell(gap: "GapRecord") -> None:
    typer.echo(f"written down as {gap.name}: {_told(gap)}")

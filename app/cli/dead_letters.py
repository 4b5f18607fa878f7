"""`bankstream dead-letters`: lists, shows and redrives dead letters."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from app.operations.dead_letters.letters import NamedDeadLetter

app = typer.Typer(help="List, show and redrive dead letters: records that could not be processed.")

Topic = Annotated[str | None, typer.Option(help="only dead letters from this topic")]
Reason = Annotated[str | None, typer.Option(help="only dead letters with this reason")]
Json = Annotated[bool, typer.Option("--json", help="print JSON for programs")]


@app.command("list")
def list_letters(
    topic: Topic = None,
    reason: Reason = None,
    limit: Annotated[int, typer.Option(min=1, help="maximum number of dead letters to list, the newest ones")] = 50,
    as_json: Json = False,
) -> None:
    """List dead letters and their numbers by topic and reason."""
    import json
    from collections import Counter

    from rich.console import Console
    from rich.table import Table

    found = _find(topic, reason)
    counts = Counter((one.letter.topic, one.letter.reason) for one in found)
    newest = sorted(found, key=lambda one: one.letter.failed_at)[-limit:]
    if as_json:
        totals = [{"topic": of, "reason": why, "count": count} for (of, why), count in sorted(counts.items())]
        typer.echo(json.dumps({"total": len(found), "counts": totals, "letters": [_plain(one) for one in newest]}))
        return
    console = Console()
    if not found:
        console.print("no dead letters")
        return
    table = Table(box=None, header_style="bold")
    for column in ("name", "failed at", "from", "reason", "message"):
        table.add_column(column, overflow="fold")
    for one in newest:
        letter = one.letter
        table.add_row(one.name, letter.failed_at[:19], letter.origin, letter.reason, _printable(letter.message))
    console.print(table)
    for (of, why), count in sorted(counts.items()):
        console.print(f"{count:>8,}  {of}  {why}")


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="partition/offset, as `list` prints it")], as_json: Json = False
) -> None:
    """Show one dead letter with its reason and its bytes, which may contain personal data."""
    import json

    from app.operations.dead_letters.letters import named

    plain = _plain(named(_find(None, None), name), with_bytes=True)
    if as_json:
        typer.echo(json.dumps(plain))
        return
    for field, value in plain.items():
        typer.echo(f"{field:>10}  {_printable(str(value))}")


@app.command()
def redrive(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="partition/offset, as `list` prints them; without names, --topic and --reason select"),
    ] = None,
    topic: Topic = None,
    reason: Reason = None,
    everything: Annotated[bool, typer.Option("--all", help="all dead letters")] = False,
    force: Annotated[bool, typer.Option(help="also send those that would arrive out of order")] = False,
    as_json: Json = False,
) -> None:
    """Send dead letters to their original topics again, in their original order.

    A dead letter that would arrive out of order is held back, with the reason. Exit code 1 if one was held back.
    """
    import asyncio
    import json

    from app.config.settings import KafkaSettings, load
    from app.operations.dead_letters.letters import kafka_errors_as_dead_letter_errors, named
    from app.operations.dead_letters.redriving import decide, send

    if not (names or topic or reason or everything):
        raise typer.BadParameter("name dead letters, select them with --topic or --reason, or use --all")
    kafka = load(KafkaSettings)
    known = _find(None, None)
    chosen = (
        [named(known, name) for name in dict.fromkeys(names)]
        if names
        else [one for one in known if one.is_of(topic, reason)]
    )
    with kafka_errors_as_dead_letter_errors(kafka):
        verdicts = asyncio.run(decide(chosen, known, kafka))
    sent = [verdict for verdict in verdicts if force or verdict.obstacle is None]
    held = [verdict for verdict in verdicts if verdict not in sent]
    if sent:
        with kafka_errors_as_dead_letter_errors(kafka):
            asyncio.run(send(sent, kafka))
    if as_json:
        held_back = [{"name": verdict.found.name, "why": verdict.obstacle} for verdict in held]
        typer.echo(json.dumps({"sent": [verdict.found.name for verdict in sent], "held_back": held_back}))
    else:
        for verdict in held:
            typer.echo(f"held back  {verdict.found.name}  {verdict.found.letter.origin}: {verdict.obstacle}")
        typer.echo(f"{len(sent)} sent again, {len(held)} held back" + (" (--force sends them too)" if held else ""))
    if held:
        raise typer.Exit(1)


def _find(topic: str | None, reason: str | None) -> "list[NamedDeadLetter]":
    import asyncio

    from app.config.settings import KafkaSettings, load
    from app.operations.dead_letters.letters import find, kafka_errors_as_dead_letter_errors

    kafka = load(KafkaSettings)
    with kafka_errors_as_dead_letter_errors(kafka):
        return asyncio.run(find(kafka, topic=topic, reason=reason))


def _plain(one: "NamedDeadLetter", *, with_bytes: bool = False) -> dict[str, Any]:
    letter = one.letter
    plain: dict[str, Any] = {
        "name": one.name, "topic": letter.topic, "partition": letter.partition, "offset": letter.offset,
        "reason": letter.reason, "stage": letter.stage, "error": letter.error, "message": letter.message, "failed_at": letter.failed_at,
    }  # fmt: skip
    if with_bytes:
        plain |= {
            "key": _text(letter.key),
            "value": _text(letter.value),
            "headers": [[name, _text(value)] for name, value in letter.headers],
        }
    return plain


def _text(raw: bytes | None) -> str | None:
    r"""Returns bytes as text. Bytes that are not UTF-8 become \x.. escapes."""
    return None if raw is None else raw.decode("utf-8", errors="backslashreplace")


def _printable(text: str) -> str:
    """Escapes control characters, because a record may contain terminal control sequences."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)

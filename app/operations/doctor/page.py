"""Generates docs/DOCTOR.md from the kinds of findings: `python -m app.operations.doctor.page > docs/DOCTOR.md`. A test compares the two."""

import sys
from typing import Final

from app.operations.doctor.finding_kinds import KINDS, Area

AREAS: Final[dict[Area, str]] = {
    "source": "PostgreSQL",
    "capture": "Capture",
    "kafka": "Kafka and workers",
    "lake": "Lake",
    "warehouse": "Warehouse",
}

HEAD: Final = """# Doctor: findings and cures

`bankstream doctor` checks every part that the settings name and gives a remedy for each finding. It changes nothing. It needs only
accounts that read: the reader's in PostgreSQL (`BANKSTREAM_POSTGRES_READER_*`), and those of `BANKSTREAM_KAFKA_*`, `_CONNECT_*`, `_S3_*`
and `_SNOWFLAKE_*`.

```console
bankstream doctor            # a table for people
bankstream doctor --json     # for programs: the findings and the checks that were made
bankstream doctor --deep     # checks every object of the lake, not only the newest of each chain
```

| exit code | |
|---|---|
| 0 | no finding is an error; there may be warnings |
| 1 | at least one finding is an error |
| 2 | no finding is an error, but a check could not be made; the report says which and why |

The checks are independent: a part that is down does not prevent the checks of the others.

This page is generated from the program's list of findings (`python -m app.operations.doctor.page`).
"""

TAIL: Final = """
## Gaps
A worker whose next record no longer exists stops with exit code 73 and names the offsets; it never skips records by itself. The lost
records may be in the lake, or can be recovered from PostgreSQL (`bankstream reconcile` shows the differences). To continue without them:

```console
bankstream gaps accept streams TOPIC/PARTITION --reason 'why'
bankstream gaps accept lake TOPIC/PARTITION --reason 'why'
bankstream gaps accept capture bank --range FROM..TO --reason 'why'
bankstream gaps list
```

The command first records the gap in the lake, as an immutable object under `gaps/`: what is missing, who accepted it, when and why.
Then the position moves past the gap: for the streams workers in a transaction that fences the worker that owns the partition, for the
lake workers by that object. Only lost records can be accepted: the command determines the range itself.

## Rebuilding the state of the streams workers
When changelogs are lost or keys are on the wrong partitions, the state cannot be restored. It can only be rebuilt from the inputs that
Kafka still has. Outputs are then sent again: the ids of versions and alerts are the same as before, the offsets are not. If records of the
CDC topics have expired, their rows are missing until a snapshot: stop Connect, drop the slot, and start Connect.

1. Stop the streams workers.
2. Delete the topics `bankstream-streams-*-changelog` and the consumer group `bankstream-streams` (`kafka-topics.sh --delete`,
   `kafka-consumer-groups.sh --delete`).
3. `bankstream provision topics`, and start the workers.
"""


def page() -> str:
    """Returns the whole page."""
    parts = [HEAD]
    for area, title in AREAS.items():
        parts.append(f"\n## {title}\n")
        parts += [
            f"\n### {kind.code}\n*{kind.severity}* · {kind.meaning}\n\n{kind.cure}\n"
            for kind in KINDS.values()
            if kind.area == area
        ]
    return "".join([*parts, TAIL])


if __name__ == "__main__":
    sys.stdout.write(page())

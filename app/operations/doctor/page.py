"""docs/DOCTOR.md, made of the kinds: `python -m app.operations.doctor.page > docs/DOCTOR.md`. A test holds the two together."""

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

`bankstream doctor` looks at every part that the settings name, changes nothing, and says what to do about what it finds. It needs the
accounts that read: the reader's in PostgreSQL (`BANKSTREAM_POSTGRES_READER_*`), and those of `BANKSTREAM_KAFKA_*`, `_CONNECT_*`, `_S3_*`
and `_SNOWFLAKE_*`.

```console
bankstream doctor            # a table for people
bankstream doctor --json     # for programs: findings, and which checks were made
bankstream doctor --deep     # every object of the lake, not only the newest of each chain
```

| exit code | |
|---|---|
| 0 | nothing is wrong; there may be warnings |
| 1 | something is wrong: at least one finding is an error |
| 2 | nothing that was found is wrong, but something could not be checked; the report says what and why |

Each check stands alone: a part that is down keeps no other from being looked at.

This page is made of the program's own list (`python -m app.operations.doctor.page`).
"""

TAIL: Final = """
## Gaps
A worker whose next record is gone stops with exit code 73 and names the offsets; it never goes on by itself. What is lost may be in the
lake, or be made good from PostgreSQL (`bankstream reconcile` says what differs). If it is decided to go on without it:

```console
bankstream gaps accept streams TOPIC/PARTITION --reason 'why'
bankstream gaps accept lake TOPIC/PARTITION --reason 'why'
bankstream gaps accept capture bank --range FROM..TO --reason 'why'
bankstream gaps list
```

The gap is first written down in the lake, as an object under `gaps/` that is never changed: what is missing, who decided, when and why.
Then the position moves behind it: for the streams workers in a transaction that fences whoever has the partition open, for the lake's by
that object. Only what is lost can be accepted: the command finds the range out itself.

## Rebuilding the state of the streams workers
When changelogs are gone or keys are on the wrong partitions, state cannot be brought forward, only made anew from the inputs that Kafka
still has. Outputs are then sent again: ids of versions and alerts are the same as before, offsets are not. Have records of the CDC topics
expired, the rows they told of are missing until a snapshot: drop the slot while Connect is stopped, and start Connect.

1. Stop the streams workers.
2. Delete the topics `bankstream-streams-*-changelog` and the consumer group `bankstream-streams` (`kafka-topics.sh --delete`,
   `kafka-consumer-groups.sh --delete`).
3. `bankstream provision topics`, and start the workers.
"""


def page() -> str:
    """The whole page."""
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

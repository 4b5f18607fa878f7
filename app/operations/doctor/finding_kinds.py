"""Every kind of finding: how bad it is, what it means, and what to do. docs/DOCTOR.md is made of this."""

from dataclasses import dataclass
from typing import Final, Literal

Severity = Literal["error", "warning"]
Area = Literal["source", "capture", "kafka", "lake", "warehouse"]


@dataclass(frozen=True, slots=True)
class FindingKind:
    """A kind of finding. An error is or will be loss, a standstill or a leak; a warning is what leads there."""

    code: str
    area: Area
    severity: Severity
    meaning: str
    cure: str


_ALL: Final = (
    FindingKind(
        "source-wal-level", "source", "error",
        "PostgreSQL does not write what logical decoding needs.",
        "Set `wal_level = logical` and restart PostgreSQL.",
    ),
    FindingKind(
        "source-migrations", "source", "error",
        "The database was not migrated by this version of the program, or a migration was changed.",
        "`bankstream provision source`; it says which migration and why.",
    ),
    FindingKind(
        "table-missing", "source", "error",
        "A captured table does not exist.",
        "`bankstream provision source`. A table that the bank has declared itself: make it, or take it out of the tables' file.",
    ),
    FindingKind(
        "primary-key", "source", "error",
        "A table's primary key is not the one that is declared: other columns, another order, or an integer where a "
        "text is declared. Its changes become dead letters, or rows that are different are taken for one.",
        "Correct `key` in the tables' file (BANKSTREAM_TABLES_FILE), or the table, before its changes are processed.",
    ),
    FindingKind(
        "replica-identity", "source", "error",
        "A table's changes come without what was before: a deletion carries its key alone, a changed key leaves its "
        "old row behind.",
        "`ALTER TABLE <table> REPLICA IDENTITY FULL`. Changes made meanwhile stay incomplete: `bankstream reconcile` "
        "shows what differs.",
    ),
    FindingKind(
        "publication-missing", "source", "error",
        "There is nothing for the connector to read.",
        "`bankstream provision source`.",
    ),
    FindingKind(
        "publication-tables", "source", "error",
        "The publication has other tables than those captured: changes of one that is missing reach nobody, and the "
        "slot goes on without them.",
        "`ALTER PUBLICATION bank SET TABLE …` as the finding says; then compare with `bankstream reconcile`. Changes "
        "made meanwhile come back only by a snapshot: stop Connect, drop the slot, start Connect.",
    ),
    FindingKind(
        "publication-operations", "source", "error",
        "The publication leaves out a kind of change.",
        "`ALTER PUBLICATION bank SET (publish = 'insert, update, delete, truncate')`; then as for publication-tables.",
    ),
    FindingKind(
        "publication-filter", "source", "error",
        "A row filter or a column list hides part of a table.",
        "`ALTER PUBLICATION bank SET TABLE …` without WHERE and columns; then as for publication-tables.",
    ),
    FindingKind(
        "role-missing", "source", "error",
        "A role does not exist, or may not log in or replicate.",
        "`bankstream provision source`.",
    ),
    FindingKind(
        "privilege-missing", "source", "error",
        "A role lacks a privilege that it needs.",
        "`bankstream provision source` grants it.",
    ),
    FindingKind(
        "privilege-excess", "source", "warning",
        "A role may do more than it needs.",
        "`bankstream provision source` revokes it. Find out who granted it.",
    ),
    FindingKind(
        "heartbeat-still", "source", "error",
        "The connector does not write its heartbeat: it is not at work, whatever Connect says.",
        "See the findings about connector and slot, then the log of Connect.",
    ),
    FindingKind(
        "slot-missing", "source", "error",
        "The replication slot does not exist. While it is missing, PostgreSQL keeps nothing for us: changes made now "
        "are not captured.",
        "Start the connector (`bankstream provision connector`): it makes the slot and reads all rows anew. Then see "
        "capture-gap.",
    ),
    FindingKind(
        "slot-inactive", "source", "error",
        "Nobody reads the slot. PostgreSQL keeps its log until the disk or the limit is full.",
        "Start Connect and the connector; its log says why it does not stream.",
    ),
    FindingKind(
        "slot-lost", "source", "error",
        "PostgreSQL has thrown away log that was not read. The connector retries for long while Connect says "
        "RUNNING, and captures nothing.",
        "Stop Connect, `SELECT pg_drop_replication_slot('bank')`, start Connect: all rows are read anew. Then see "
        "capture-gap. Raise `max_slot_wal_keep_size`.",
    ),
    FindingKind(
        "slot-unreserved", "source", "error",
        "The slot is about to be lost: the log it needs goes at the next checkpoint.",
        "Get the connector to read now; else raise `max_slot_wal_keep_size` and reload at once.",
    ),
    FindingKind(
        "slot-behind", "source", "warning",
        "PostgreSQL keeps much log for the slot.",
        "Is the connector slow or standing? See its lag and the log of Connect.",
    ),
    FindingKind(
        "slot-kind", "source", "error",
        "The slot is not a logical one of pgoutput in this database.",
        "Drop it, or name another in the connector's `slot.name`.",
    ),
    FindingKind(
        "connector-missing", "capture", "error",
        "Kafka Connect does not have the connector.",
        "`bankstream provision connector`.",
    ),
    FindingKind(
        "connector-state", "capture", "error",
        "The connector or its task does not run.",
        "PAUSED or STOPPED: resume it (`PUT /connectors/bank/resume`). FAILED: correct the cause, then `bankstream "
        "provision connector`.",
    ),
    FindingKind(
        "connector-settings", "capture", "error",
        "Connect has other settings than those this program was tested with.",
        "`bankstream provision connector` puts them right. ops/connect/README.md says why each is as it is.",
    ),
    FindingKind(
        "connector-secret", "capture", "error",
        "A secret stands in the connector's stored configuration, where anyone with access to Connect reads it.",
        "`bankstream provision connector`, and change that password.",
    ),
    FindingKind(
        "capture-gap", "capture", "error",
        "Changes were never captured: the slot was lost, dropped or moved. What the rows had become was read anew by "
        "a snapshot; the steps between are missing, and rows deleted meanwhile were not seen to go. Seen in the "
        "heartbeats, which are kept for one day.",
        "Write the gap down, with who decided what: `bankstream gaps accept` as the finding says. That also closes the "
        "versions of tables that were empty when capture began anew. Then `bankstream reconcile`, and mend what differs.",
    ),
    FindingKind(
        "slot-ahead", "capture", "error",
        "The slot stands behind what was captured last: it was made anew, or moved by hand. The connector reads all "
        "rows anew when it starts; the changes between are lost.",
        "Start the connector, then as for capture-gap.",
    ),
    FindingKind(
        "topic-missing", "kafka", "error",
        "A topic does not exist.",
        "`bankstream provision topics`, if it never existed. A changelog that did exist holds state: see "
        "changelog-recreated.",
    ),
    FindingKind(
        "topic-partitions", "kafka", "error",
        "A topic has another partition count than configured: keys and their state are on different partitions.",
        "Set BANKSTREAM_TOPIC_PARTITIONS to what exists, if nothing was processed yet. If partitions were added: "
        "records since then are on the wrong partitions; make the topic anew with the old count and rebuild (below).",
    ),
    FindingKind(
        "topic-policy", "kafka", "error",
        "A topic loses records earlier than it should, or keeps them in another way.",
        "`kafka-configs.sh --alter` with the value that the finding names.",
    ),
    FindingKind(
        "topic-size", "kafka", "error",
        "A topic takes smaller records than may come: the producer of a large one fails.",
        "`kafka-configs.sh --alter` with the value that the finding names.",
    ),
    FindingKind(
        "topic-replicas", "kafka", "warning",
        "Fewer replicas than configured, or the broker waits for fewer: a broker's death can lose records.",
        "`kafka-reassign-partitions.sh` and `kafka-configs.sh` with the values that the finding names.",
    ),
    FindingKind(
        "topic-offline", "kafka", "error",
        "A partition has no leader, or replicas that are not in sync.",
        "See to the brokers.",
    ),
    FindingKind(
        "topic-recreated", "kafka", "error",
        "A topic that was processed has been deleted and created anew. Workers stop with exit code 73. What the old "
        "one had behind the last offset that was processed is lost, unless the lake has it.",
        "If those records do not matter or are made good: `bankstream gaps accept` as the finding says, and start "
        "the workers.",
    ),
    FindingKind(
        "records-expired", "kafka", "error",
        "Kafka has thrown records away before they were processed. Workers stop with exit code 73.",
        "The lake may have them. If the loss is accepted: `bankstream gaps accept` as the finding says, and start "
        "the workers.",
    ),
    FindingKind(
        "records-lost", "kafka", "error",
        "Kafka ends before what was processed: it has lost records that it had confirmed.",
        "Bring the broker's data back. Look for an unclean election of a leader.",
    ),
    FindingKind(
        "changelog-recreated", "kafka", "error",
        "A changelog was deleted and created anew: the state of its table is gone. Workers stop with exit code 73.",
        "Restore it, or rebuild (below).",
    ),
    FindingKind(
        "state-gone", "kafka", "error",
        "A consumer group has processed records, but there is no state of it: all its changelogs are gone.",
        "As for changelog-recreated.",
    ),
    FindingKind(
        "worker-absent", "kafka", "error",
        "No worker of a kind is in its consumer group.",
        "Start one. If it ends by itself, its last log line says why; exit code 73 is about the findings here.",
    ),
    FindingKind(
        "topic-unread", "kafka", "warning",
        "A topic has records, and the workers of a kind have not read one. For some seconds after the first record that is "
        "so; if it stays, they were started before the table was declared, or with another tables' file.",
        "Start the workers again, with the BANKSTREAM_TABLES_FILE that this command was given. Nothing is lost as long as Kafka keeps "
        "the records.",
    ),
    FindingKind(
        "worker-behind", "kafka", "warning",
        "Workers are far behind what Kafka has.",
        "Add workers, or see what they wait for (docs/RUNBOOK.md).",
    ),
    FindingKind(
        "lake-expired", "lake", "error",
        "Kafka has thrown records away before they were in the lake. The lake's workers stop with exit code 73.",
        "If the loss is accepted: `bankstream gaps accept` as the finding says, and start the workers.",
    ),
    FindingKind(
        "lake-recreated", "lake", "error",
        "A topic was created anew. The lake goes on with a new chain; what the old topic had behind the end of the "
        "old chain is lost.",
        "Write it down: `bankstream gaps accept` as the finding says.",
    ),
    FindingKind(
        "lake-ahead", "lake", "error",
        "The lake has records of this topic behind Kafka's end: Kafka has lost what it had confirmed.",
        "As for records-lost.",
    ),
    FindingKind(
        "chain-broken", "lake", "error",
        "An object does not follow the one before it: one between is missing, or one was changed.",
        "Bring the missing object back from the bucket's versions or its replica. Nothing behind it is loaded before "
        "that.",
    ),
    FindingKind(
        "warehouse-table", "warehouse", "error",
        "A table of the warehouse does not exist, or is of another version.",
        "`bankstream provision warehouse`.",
    ),
    FindingKind(
        "ledger-object", "warehouse", "error",
        "The last object that was loaded is not in the lake, or another than it was.",
        "Is it the right lake (BANKSTREAM_S3_*)? Bring the object back. Nothing behind it is loaded before that.",
    ),
    FindingKind(
        "ledger-ahead", "warehouse", "error",
        "The warehouse has loaded more than the lake has: objects were removed from its end.",
        "As for ledger-object. Do not start a lake worker before: it would write other objects in their place.",
    ),
)  # fmt: skip

KINDS: Final = {kind.code: kind for kind in _ALL}

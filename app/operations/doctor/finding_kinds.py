"""Defines every kind of finding: its severity, its meaning and its remedy. docs/DOCTOR.md is generated from this list."""

from dataclasses import dataclass
from typing import Final, Literal

Severity = Literal["error", "warning"]
Area = Literal["source", "capture", "kafka", "lake", "warehouse"]


@dataclass(frozen=True, slots=True)
class FindingKind:
    """A kind of finding. An error is loss, a standstill or a leaked secret, now or soon; a warning is a condition that leads to one."""

    code: str
    area: Area
    severity: Severity
    meaning: str
    cure: str


_ALL: Final = (
    FindingKind(
        "source-wal-level", "source", "error",
        "PostgreSQL's WAL lacks the information that logical decoding needs.",
        "Set `wal_level = logical` and restart PostgreSQL.",
    ),
    FindingKind(
        "source-migrations", "source", "error",
        "The database was not migrated by this version of the program, or a migration was changed.",
        "`bankstream provision source`; it names the migration and the reason.",
    ),
    FindingKind(
        "table-missing", "source", "error",
        "A captured table does not exist.",
        "`bankstream provision source`. A table that the tables' file declares: create it, or remove it from that file.",
    ),
    FindingKind(
        "primary-key", "source", "error",
        "A table's primary key is not the one that is declared: other columns, another order, or an integer where a "
        "text is declared. Its changes become dead letters, or different rows are treated as one.",
        "Correct `key` in the tables' file (BANKSTREAM_TABLES_FILE), or the table, before its changes are processed.",
    ),
    FindingKind(
        "replica-identity", "source", "error",
        "A table's changes lack the row before the change: a delete carries only its key, and a changed key does not "
        "delete its old row.",
        "`ALTER TABLE <table> REPLICA IDENTITY FULL`. Changes made before that stay incomplete: `bankstream reconcile` "
        "shows the differences.",
    ),
    FindingKind(
        "publication-missing", "source", "error",
        "The publication that the connector reads does not exist.",
        "`bankstream provision source`.",
    ),
    FindingKind(
        "publication-tables", "source", "error",
        "The publication's tables are not the captured tables. Changes of a missing table are not captured, and the "
        "slot advances past them.",
        "`ALTER PUBLICATION bank SET TABLE …` as the finding says; then compare with `bankstream reconcile`. Only a "
        "snapshot recovers rows changed before that: stop Connect, drop the slot, start Connect.",
    ),
    FindingKind(
        "publication-operations", "source", "error",
        "The publication leaves out an operation.",
        "`ALTER PUBLICATION bank SET (publish = 'insert, update, delete, truncate')`; then continue as for publication-tables.",
    ),
    FindingKind(
        "publication-filter", "source", "error",
        "A row filter or a column list hides part of a table.",
        "`ALTER PUBLICATION bank SET TABLE …` without WHERE and without a column list; then continue as for publication-tables.",
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
        "A role has more privileges than it needs.",
        "`bankstream provision source` revokes it. Find out who granted it.",
    ),
    FindingKind(
        "heartbeat-still", "source", "error",
        "The connector does not write its heartbeat: it does not stream, even if Connect reports RUNNING.",
        "See the findings about the connector and the slot, then Connect's log.",
    ),
    FindingKind(
        "slot-missing", "source", "error",
        "The replication slot does not exist. While it is missing, PostgreSQL retains no WAL for it: changes made now "
        "are not captured.",
        "Start the connector (`bankstream provision connector`): it creates the slot and reads all rows again. Then see "
        "capture-gap.",
    ),
    FindingKind(
        "slot-inactive", "source", "error",
        "The slot has no reader. PostgreSQL retains WAL until the disk is full or the limit is reached.",
        "Start Connect and the connector; its log says why it does not stream.",
    ),
    FindingKind(
        "slot-lost", "source", "error",
        "PostgreSQL has removed WAL that was not read. The connector retries for a long time, during which Connect "
        "reports RUNNING, and captures nothing.",
        "Stop Connect, `SELECT pg_drop_replication_slot('bank')`, start Connect: all rows are read again. Then see "
        "capture-gap. Raise `max_slot_wal_keep_size`.",
    ),
    FindingKind(
        "slot-unreserved", "source", "error",
        "The slot is about to be lost: the next checkpoint removes WAL that it needs.",
        "Make the connector read now; otherwise raise `max_slot_wal_keep_size` and reload the configuration at once.",
    ),
    FindingKind(
        "slot-behind", "source", "warning",
        "PostgreSQL retains a large amount of WAL for the slot.",
        "See the connector's lag and Connect's log: the connector is slow or has stopped.",
    ),
    FindingKind(
        "slot-kind", "source", "error",
        "The slot is not a logical slot of pgoutput in this database.",
        "Drop it, or name another slot in the connector's `slot.name`.",
    ),
    FindingKind(
        "connector-missing", "capture", "error",
        "Kafka Connect does not have the connector.",
        "`bankstream provision connector`.",
    ),
    FindingKind(
        "connector-state", "capture", "error",
        "The connector or its task does not run.",
        "PAUSED or STOPPED: resume it (`PUT /connectors/bank/resume`). FAILED: remove the cause, then `bankstream "
        "provision connector`.",
    ),
    FindingKind(
        "connector-settings", "capture", "error",
        "The connector's settings in Connect differ from those that this program was tested with.",
        "`bankstream provision connector` restores them. ops/connect/README.md gives the reason for each.",
    ),
    FindingKind(
        "connector-secret", "capture", "error",
        "The connector's stored configuration contains a secret. Anyone with access to Connect can read it.",
        "`bankstream provision connector`, then change that password.",
    ),
    FindingKind(
        "capture-gap", "capture", "error",
        "Changes were never captured: the slot was lost, dropped or moved. A snapshot has read the rows as they were "
        "afterwards; the changes between are missing, and so are the deletes. The heartbeats show the gap; Kafka keeps "
        "them for one day.",
        "Record the gap, who accepts it and why: `bankstream gaps accept` as the finding says. That also closes the "
        "versions of tables that were empty when capture started again. Then `bankstream reconcile`, and repair what differs.",
    ),
    FindingKind(
        "slot-ahead", "capture", "error",
        "The slot begins after the last captured change: it was recreated, or advanced manually. The connector reads all "
        "rows again when it starts; the changes between are lost.",
        "Start the connector, then continue as for capture-gap.",
    ),
    FindingKind(
        "topic-missing", "kafka", "error",
        "A topic does not exist.",
        "`bankstream provision topics`, if it never existed. A changelog that existed held state: see "
        "changelog-recreated.",
    ),
    FindingKind(
        "topic-partitions", "kafka", "error",
        "A topic's partition count differs from the configured one: keys and their state are on different partitions.",
        "If nothing was processed yet, set BANKSTREAM_TOPIC_PARTITIONS to the count that exists. If partitions were added, "
        "records since then are on the wrong partitions: recreate the topic with the old count and rebuild (below).",
    ),
    FindingKind(
        "topic-policy", "kafka", "error",
        "A topic deletes records earlier than configured, or has another cleanup policy.",
        "`kafka-configs.sh --alter` with the value that the finding names.",
    ),
    FindingKind(
        "topic-size", "kafka", "error",
        "A topic's maximum record size is below the configured one: the producer of a large record fails.",
        "`kafka-configs.sh --alter` with the value that the finding names.",
    ),
    FindingKind(
        "topic-replicas", "kafka", "warning",
        "A topic has fewer replicas than configured, or accepts writes with fewer in-sync replicas: the failure of a broker can "
        "lose records.",
        "`kafka-reassign-partitions.sh` and `kafka-configs.sh` with the values that the finding names.",
    ),
    FindingKind(
        "topic-offline", "kafka", "error",
        "A partition has no leader, or replicas that are not in sync.",
        "Start the brokers that are down, or see why their replicas are not in sync.",
    ),
    FindingKind(
        "topic-recreated", "kafka", "error",
        "A topic that was processed has been deleted and recreated. Workers stop with exit code 73. The old topic's "
        "records after the last processed offset are lost, unless the lake has them.",
        "If those records do not matter or have been recovered: `bankstream gaps accept` as the finding says, and start "
        "the workers.",
    ),
    FindingKind(
        "records-expired", "kafka", "error",
        "Kafka has deleted records before they were processed. Workers stop with exit code 73.",
        "The lake may have them. If the loss is accepted: `bankstream gaps accept` as the finding says, and start "
        "the workers.",
    ),
    FindingKind(
        "records-lost", "kafka", "error",
        "Kafka's log ends before the processed offset: Kafka has lost records that it had acknowledged.",
        "Restore the broker's data. Check for an unclean leader election.",
    ),
    FindingKind(
        "changelog-recreated", "kafka", "error",
        "A changelog was deleted and recreated: the state of its table is lost. Workers stop with exit code 73.",
        "Restore it, or rebuild (below).",
    ),
    FindingKind(
        "state-gone", "kafka", "error",
        "A consumer group has processed records, but has no state: all its changelogs are missing.",
        "As for changelog-recreated.",
    ),
    FindingKind(
        "worker-absent", "kafka", "error",
        "No worker of a kind is in its consumer group.",
        "Start one. If it exits again, its last log line says why; exit code 73 refers to the findings on this page.",
    ),
    FindingKind(
        "topic-unread", "kafka", "warning",
        "A topic has records, and the workers of a kind have read none of them. This is normal for some seconds after the "
        "first record. If it persists, they were started before the table was declared, or with another tables' file.",
        "Restart the workers with the BANKSTREAM_TABLES_FILE that this command uses. Nothing is lost as long as Kafka keeps "
        "the records.",
    ),
    FindingKind(
        "worker-behind", "kafka", "warning",
        "Workers are far behind the end of their topics.",
        "Add workers, or find the cause of the lag (docs/RUNBOOK.md).",
    ),
    FindingKind(
        "lake-expired", "lake", "error",
        "Kafka has deleted records before they were in the lake. The lake workers stop with exit code 73.",
        "If the loss is accepted: `bankstream gaps accept` as the finding says, and start the workers.",
    ),
    FindingKind(
        "lake-recreated", "lake", "error",
        "A topic was recreated. The lake continues with a new chain; the old topic's records after the end of the "
        "old chain are lost.",
        "Record the gap: `bankstream gaps accept` as the finding says.",
    ),
    FindingKind(
        "lake-ahead", "lake", "error",
        "The lake has records of this topic after Kafka's end: Kafka has lost records that it had acknowledged.",
        "Continue as for records-lost.",
    ),
    FindingKind(
        "chain-broken", "lake", "error",
        "An object does not continue the one before it: an object between them is missing, or one was changed.",
        "Restore the missing object from the bucket's versions or its replica. Until then, later objects are not "
        "loaded.",
    ),
    FindingKind(
        "warehouse-table", "warehouse", "error",
        "A table of the warehouse does not exist, or has another schema version.",
        "`bankstream provision warehouse`.",
    ),
    FindingKind(
        "ledger-object", "warehouse", "error",
        "The last loaded object is not in the lake, or has been replaced by another.",
        "Check that this is the right lake (BANKSTREAM_S3_*). Restore the object. Until then, later objects are not loaded.",
    ),
    FindingKind(
        "ledger-ahead", "warehouse", "error",
        "The warehouse has loaded more than the lake has: objects were removed from its end.",
        "Continue as for ledger-object. Do not start a lake worker before that: it would write other objects in their place.",
    ),
)  # fmt: skip

KINDS: Final = {kind.code: kind for kind in _ALL}

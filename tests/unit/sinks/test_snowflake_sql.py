"""Tests that the SQL of ops/snowflake can be run in order, grants only what each role needs, and matches the catalogue of topics."""

import json
from collections.abc import Callable

import pytest

from app.operations.provision.warehouse import landing_tables
from sinks.snowpipe_streaming import pipe_name
from tests.support.catalogue import CATALOGUE
from tests.support.paths import PROJECT
from tests.support.warehouse.snowflake_sql import Account, check, statements

FOLDER = PROJECT / "ops" / "snowflake"
FILES = {path.name: path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.sql"))}
VARIABLES = {
    "database": "BANK",
    "bucket": "bank-lake/folder",
    "lake_role_arn": "arn:aws:iam::001234567890:role/bank-lake",
    "user": "BANK_LOADER_SVC",
    **{f"{name}_public_key": "MIIBIjAN" for name in ("deployer", "loader", "transformer", "auditor", "next")},
}


def problems(change: Callable[[str], str] = lambda text: text) -> list[str]:
    return check((change(text) for text in FILES.values()), VARIABLES, Account())


def test_every_statement_can_be_run_in_the_order_of_the_files() -> None:
    assert problems() == []
    assert sum(len(list(statements(text, VARIABLES))) for text in FILES.values()) > 80


@pytest.mark.parametrize(
    ("right", "wrong", "found"),
    [
        ("GRANT SELECT, INSERT ON FUTURE", "GRANT SELECT, INSRT ON FUTURE", "TABLE has no privilege INSRT"),
        ("GRANT UPDATE ON TABLE", "GRANT UPDATES ON TABLE", "TABLE has no privilege UPDATES"),
        ("GRANT UPDATE ON TABLE", "GRANT OWNERSHIP ON TABLE", "TABLE has no privilege OWNERSHIP"),
        ("FUTURE TABLES IN SCHEMA", "FUTURE TABLE IN SCHEMA", "GRANT"),
        ("FUTURE STAGES", "FUTURE STAGE AREAS", "no objects of kind STAGE AREA"),
        ("BRONZE.LAKE_LEDGER", "BRONZE.LAKE_LEGDER", "nobody made BANK.BRONZE.LAKE_LEGDER"),
        ("USE ROLE USERADMIN", "USE ROLE USER_ADMIN", "nobody made this role"),
        ("TO ROLE <% database %>_READER;", "TO ROLE <% database %>_READERS;", "nobody made"),
        ("AUTO_SUSPEND = 60", "AUTOSUSPEND = 60", "WAREHOUSE has no option AUTOSUSPEND"),
        ("STORAGE_PROVIDER = 'S3'", "STORAGE_PROVIDER = 'S3", "cannot be"),
        ("STORAGE_ALLOWED_LOCATIONS", "ALLOWED_LOCATIONS", "STORAGE INTEGRATION has no option ALLOWED_LOCATIONS"),
        ("TYPE = SERVICE", "TYPE SERVICE", "cannot be"),
        ("RSA_PUBLIC_KEY = ", "RSA_PUBLICKEY = ", "USER has no option RSA_PUBLICKEY"),
        ("RSA_PUBLIC_KEY_2 = ", "RSA_KEY_2 = ", "USER has no option RSA_KEY_2"),
        (" WITH MANAGED ACCESS", "", "WITH MANAGED ACCESS"),
        ("CREATE DATABASE IF NOT EXISTS", "CREATE OR REPLACE DATABASE", "IF NOT EXISTS"),
        ("PIPED.LAKE/bank.alerts/", "PIPED.LAKE/bank.alert/", "there is no topic bank.alert"),
        ("COPY INTO <% database %>.PIPED.ALERTS_OBJECTS", "COPY INTO <% database %>.PIPED.ALERT", "nobody made BANK.PIPED.ALERT"),
        ("METADATA$START_SCAN_TIME FROM", "METADATA$START_SCAN_TIME FORM", ""),
        ("AUTO_INGEST = TRUE", "AUTOINGEST = TRUE", "PIPE has no option AUTOINGEST"),
        ("TYPE => 'STREAMING'", "TYPE => 'STREAM'", "a pipe copies from"),
        ("BRONZE.ALERTS (record)", "BRONZE.ALERT (record)", "nobody made BANK.BRONZE.ALERT"),
        ("ALL PIPES IN SCHEMA", "ALL PIPE IN SCHEMA", "GRANT"),
        ("QUALIFY row_number() OVER (", "QUALIFY row_number() OVER ", "cannot be parsed"),
        ("DESC INTEGRATION", "DESCRIBE INTEGRATIONS", ""),
        ("GRANT ROLE <% database %>_LOADER TO USER", "GRANT <% database %>_LOADER TO USER", "GRANT"),
    ],
)  # fmt: skip
def test_a_mistake_is_found(right: str, wrong: str, found: str) -> None:
    assert any(right in text for text in FILES.values()), "the mistake has to be somewhere"
    told = problems(lambda text: text.replace(right, wrong))
    assert any(found in line for line in told), told
    assert told


def test_a_missing_variable_is_an_error() -> None:
    with pytest.raises(KeyError):
        check(FILES.values(), {"database": "BANK"}, Account())


def granted() -> dict[str, set[tuple[str, str, str]]]:
    account = Account()
    check(FILES.values(), VARIABLES, account)
    by_role: dict[str, set[tuple[str, str, str]]] = {}
    for privilege, kind, of, role in account.grants:
        by_role.setdefault(role.removeprefix("BANK_"), set()).add((privilege, kind, of.removeprefix("BANK.")))
    return by_role


def test_each_role_has_the_privileges_that_it_needs_and_no_others() -> None:
    found = granted()
    assert found["LOADER"] == {
        ("USAGE", "WAREHOUSE", "BANK_LOAD_WH"), ("USAGE", "DATABASE", "BANK"), ("USAGE", "SCHEMA", "BRONZE"),
        ("SELECT", "TABLE", "BRONZE"), ("INSERT", "TABLE", "BRONZE"), ("UPDATE", "TABLE", "BRONZE.LAKE_LEDGER"),
        ("USAGE", "STAGE", "BRONZE"), ("USAGE", "FILE FORMAT", "BRONZE"),
        ("OPERATE", "PIPE", "BRONZE"), ("MONITOR", "PIPE", "BRONZE"),
    }  # fmt: skip
    changing = {"INSERT", "UPDATE", "DELETE", "TRUNCATE", "CREATE TABLE", "CREATE VIEW", "CREATE DATABASE"}
    for role in ("READER", "AUDITOR"):
        assert not {privilege for privilege, _, _ in found[role]} & changing, role
    assert {of for privilege, _, of in found["READER"] if privilege == "SELECT"} == {"GOLD"}
    assert {of for privilege, _, of in found["TRANSFORMER"] if privilege.startswith("CREATE")} == {"SILVER", "GOLD"}
    assert not {privilege for privilege, _, of in found["TRANSFORMER"] if of == "BRONZE"} & changing
    assert not found.keys() & {"ACCOUNTADMIN", "SYSADMIN", "SECURITYADMIN", "USERADMIN"}


def test_every_landed_topic_has_a_pipe_into_its_own_table() -> None:
    account = Account()
    check(FILES.values(), VARIABLES, account)
    assert account.piped == {topic.name: f"{topic.landing}_OBJECTS" for topic in CATALOGUE.landed}


def test_the_policies_for_aws_are_json_and_grant_only_reads() -> None:
    policy = json.loads((FOLDER / "s3-policy.json").read_text(encoding="utf-8"))
    actions = {action for statement in policy["Statement"] for action in statement["Action"]}
    assert actions == {"s3:GetObject", "s3:GetObjectVersion", "s3:ListBucket", "s3:GetBucketLocation"}
    trust = json.loads((FOLDER / "trust-policy.json").read_text(encoding="utf-8"))
    assert trust["Statement"][0]["Condition"] == {"StringEquals": {"sts:ExternalId": "STORAGE_AWS_EXTERNAL_ID"}}


def test_every_landing_table_has_a_pipe_for_rows_that_stream() -> None:
    account = Account()
    check(FILES.values(), VARIABLES, account)
    assert account.streamed == {pipe_name(table): table for table in landing_tables(CATALOGUE)}

"""Tests `bankstream settings`: values from the environment, hidden secrets, and misspelt names."""

import pytest
from typer.testing import CliRunner

from app.cli.main import app
from app.config import settings_page


def settings(monkeypatch: pytest.MonkeyPatch, *arguments: str, **environment: str) -> tuple[int, str]:
    for found in settings_page.every():
        monkeypatch.delenv(found.variable, raising=False)
    result = CliRunner().invoke(app, ["settings", *arguments], env=environment)
    return result.exit_code, result.output


def test_what_the_environment_sets_is_shown_and_secrets_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    code, output = settings(monkeypatch, BANKSTREAM_S3_BUCKET="ours", BANKSTREAM_S3_SECRET_ACCESS_KEY="hush")
    assert (code, output.splitlines()) == (0, ["BANKSTREAM_S3_BUCKET=ours", "BANKSTREAM_S3_SECRET_ACCESS_KEY=(set)"])


def test_defaults_are_shown_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    code, output = settings(monkeypatch, "--all", BANKSTREAM_LAKE_MAX_ROWS="7")
    assert code == 0
    assert "BANKSTREAM_LAKE_MAX_ROWS=7\n" in output
    assert "BANKSTREAM_UNTRACKED_COLUMNS=balance,updated_at  # default\n" in output
    assert "BANKSTREAM_WAREHOUSE_SERVER_PORT" not in output


def test_a_misspelt_setting_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    code, output = settings(monkeypatch, BANKSTREAM_KAFAK_PARTITIONS="3", BANKSTREAM_CONNECTOR_DATABASE_HOST="bank")
    assert code == 1
    assert "BANKSTREAM_KAFAK_PARTITIONS" in output
    assert "BANKSTREAM_CONNECTOR" not in output


def test_the_reference_has_the_allowed_values_of_each_setting() -> None:
    kinds = {found.variable: found.kind for found in settings_page.every()}
    assert kinds["BANKSTREAM_LAKE_COMPRESSION_LEVEL"] == "integer, from 1 to 19"
    assert kinds["BANKSTREAM_STACK_PORT_KAFKA"] == "integer, above 0 below 65536"
    assert kinds["BANKSTREAM_SNOWFLAKE_PROTOCOL"] == "`https`, `http`"
    assert kinds["BANKSTREAM_POSTGRES_PASSWORD"] == "secret"

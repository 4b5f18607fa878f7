"""The settings of the DAGs, from the environment of Airflow's own processes (prefix BANKSTREAM_AIRFLOW_), checked when a DAG is parsed.

How to reach PostgreSQL, Kafka, the lake and the warehouse are the application's settings (BANKSTREAM_…): they are passed on to its commands
as they are, and not read here.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final, Self
from urllib.parse import urlsplit

PREFIX: Final = "BANKSTREAM_AIRFLOW_"
CHECKOUT: Final = Path(__file__).resolve().parents[4]


class SettingsError(ValueError):
    """A setting is not what it has to be. The message names it and never holds its value: it may be a secret."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that is set in an installation."""

    project: Path
    """A checkout of this project: its dbt folder is what is built. BANKSTREAM_AIRFLOW_PROJECT; unset: the one with this file."""
    programs: Path
    """The folder with `bankstream` and `dbt`. BANKSTREAM_AIRFLOW_PROGRAMS; unset: .venv/bin of the checkout."""
    home: Path
    """Where dbt's results and logs go. BANKSTREAM_HOME; unset: .bankstream of the checkout."""
    schedule: str
    """Cron, UTC. BANKSTREAM_AIRFLOW_SCHEDULE; unset: every quarter of an hour. Empty: only when it is triggered."""
    retries: int
    """Of a task that could not do its work. BANKSTREAM_AIRFLOW_RETRIES."""
    retry_delay: timedelta
    """Before the first retry; it doubles from one to the next, up to half an hour. BANKSTREAM_AIRFLOW_RETRY_DELAY_S."""
    task_timeout: timedelta
    """A task is ended after so long. BANKSTREAM_AIRFLOW_TASK_TIMEOUT_S."""
    reconcile_timeout_s: int
    """How long reconcile waits for the warehouse to have what the source has. BANKSTREAM_AIRFLOW_RECONCILE_TIMEOUT_S."""
    settle_seconds: int | None
    """dbt's variable of this name. BANKSTREAM_AIRFLOW_SETTLE_SECONDS; unset: the dbt project's own default."""
    webhook_url: str | None = field(repr=False)
    """Where alarms are posted; such an address is a secret. BANKSTREAM_AIRFLOW_WEBHOOK_URL; unset: alarms are only logged."""

    @classmethod
    def read(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """From the environment. SettingsError names the setting that is wrong."""
        project = Path(environment.get(f"{PREFIX}PROJECT") or CHECKOUT)
        settle = environment.get(f"{PREFIX}SETTLE_SECONDS")
        return cls(
            project=project,
            programs=Path(environment.get(f"{PREFIX}PROGRAMS") or project / ".venv" / "bin"),
            home=Path(environment.get("BANKSTREAM_HOME") or project / ".bankstream").absolute(),
            schedule=environment.get(f"{PREFIX}SCHEDULE", "*/15 * * * *").strip(),
            retries=_number(environment, "RETRIES", 3, least=0),
            retry_delay=timedelta(seconds=_number(environment, "RETRY_DELAY_S", 60)),
            task_timeout=timedelta(seconds=_number(environment, "TASK_TIMEOUT_S", 1_800)),
            reconcile_timeout_s=_number(environment, "RECONCILE_TIMEOUT_S", 300),
            settle_seconds=_number(environment, "SETTLE_SECONDS", 0, least=0) if settle else None,
            webhook_url=_address(environment, "WEBHOOK_URL"),
        )


def _number(environment: Mapping[str, str], name: str, default: int, *, least: int = 1) -> int:
    text = environment.get(f"{PREFIX}{name}") or str(default)
    if not text.isascii() or not text.isdigit() or int(text) < least:
        raise SettingsError(f"{PREFIX}{name} has to be a whole number, {least} or more.")
    return int(text)


def _address(environment: Mapping[str, str], name: str) -> str | None:
    text = environment.get(f"{PREFIX}{name}") or None
    if text is not None and (urlsplit(text).scheme not in ("http", "https") or not urlsplit(text).hostname):
        raise SettingsError(f"{PREFIX}{name} has to be an http or https address.")
    return text

"""Reads the settings of the DAGs from the environment of Airflow's processes (prefix BANKSTREAM_AIRFLOW_) when a DAG is parsed.

The connections to PostgreSQL, Kafka, the lake and the warehouse are settings of the application (BANKSTREAM_…). They are passed to its
commands unchanged and are not read here.
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
    """A setting is invalid. The message names it but not its value, which may be a secret."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of an installation."""

    project: Path
    """A checkout of this project, whose dbt folder is built. BANKSTREAM_AIRFLOW_PROJECT; unset: the checkout with this file."""
    programs: Path
    """The folder with `bankstream` and `dbt`. BANKSTREAM_AIRFLOW_PROGRAMS; unset: .venv/bin of the checkout."""
    home: Path
    """Where dbt's results and logs go. BANKSTREAM_HOME; unset: .bankstream of the checkout."""
    schedule: str
    """Cron, UTC. BANKSTREAM_AIRFLOW_SCHEDULE; unset: every 15 minutes. Empty: only when triggered."""
    retries: int
    """Retries of a task that failed without a finding. BANKSTREAM_AIRFLOW_RETRIES."""
    retry_delay: timedelta
    """The delay before the first retry; it doubles with each retry, up to half an hour. BANKSTREAM_AIRFLOW_RETRY_DELAY_S."""
    task_timeout: timedelta
    """The maximum duration of a task. BANKSTREAM_AIRFLOW_TASK_TIMEOUT_S."""
    reconcile_timeout_s: int
    """The maximum time that reconcile waits for the warehouse to load the source's changes. BANKSTREAM_AIRFLOW_RECONCILE_TIMEOUT_S."""
    settle_seconds: int | None
    """dbt's variable of this name. BANKSTREAM_AIRFLOW_SETTLE_SECONDS; unset: the dbt project's own default."""
    webhook_url: str | None = field(repr=False)
    """The URL to which alarms are posted, which is a secret. BANKSTREAM_AIRFLOW_WEBHOOK_URL; unset: alarms are only logged."""

    @classmethod
    def read(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Reads the settings from the environment. SettingsError names an invalid setting."""
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

"""Tests the dashboard on the local warehouse server: its figures, its messages without data, and Streamlit's pages."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import psutil
import pytest
import yaml
from streamlit.testing.v1 import AppTest

from app.local.demo.dashboard import Dashboard
from app.local.stack.ports import is_free
from ops.dashboard import access, data, records, views
from ops.dashboard.query_cache import QueryCache
from ops.dashboard.warehouse import Session
from sinks.base import SinkUnavailableError
from sinks.reading import MissingObjectError
from tests.support.machine.waiting import eventually
from tests.support.paths import PROJECT
from tests.support.web.dashboard import Warehouse, a_live_bank, build_gold, healthy, warehouse

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    with warehouse(tmp_path_factory.mktemp("warehouse")) as made:
        yield made


@pytest.fixture(scope="module")
def now(tables: Warehouse) -> datetime:
    moment = datetime.now(UTC)
    a_live_bank(tables, moment)
    return moment


@pytest.fixture(scope="module")
def gold(tables: Warehouse, now: datetime) -> datetime:
    session = Session(tables.settings)
    with pytest.raises(MissingObjectError):  # the same query before and after gold exists
        data.currencies(session, now)
    session.close()
    build_gold(tables, now)
    return now


@pytest.fixture
def session(tables: Warehouse) -> Iterator[Session]:
    made = Session(tables.settings)
    yield made
    made.close()


def app(tables: Warehouse, monkeypatch: pytest.MonkeyPatch, page: str, **query: str) -> AppTest:
    """A page, rendered by Streamlit without a browser."""
    for name, value in tables.environment.items():
        monkeypatch.setenv(name, value)
    access.query_cache.clear()
    access.landing.clear()
    access.shows_personal_data.clear()
    script = f"from ops.dashboard.views import {page}\n{page}.show()\n"
    found = AppTest.from_string(script, default_timeout=60)
    for name, value in query.items():
        found.query_params[name] = value
    found.run()
    assert not found.exception
    return found


def said(found: AppTest) -> str:
    """All text and HTML of a page, including tags."""
    return "\n".join(str(element.proto) for element in found.get("html")) + "\n".join(one.value for one in found.title)


def test_live_figures_use_the_last_state_of_each_transaction(session: Session, now: datetime) -> None:
    found = data.live(session, now, 15)
    assert found is not None
    sums = {(one.currency, one.type): (one.count, one.amount) for one in found.slices}
    assert sums == {
        ("EUR", "credit"): (2, Decimal("100.30")),
        ("EUR", "debit"): (1, Decimal("10.00")),
        ("USD", "debit"): (1, Decimal("7.77")),
    }
    assert {one.transaction_id: one.status for one in found.newest}[1] == "posted"
    assert 6 not in {one.transaction_id for one in found.newest}


def test_a_time_without_transactions_has_no_figures(session: Session, now: datetime) -> None:
    assert data.live(session, now + timedelta(hours=2), 15) is None


def test_an_alert_that_landed_twice_is_counted_once(session: Session, now: datetime) -> None:
    found = data.alerts(session, now, 24)
    assert [one.alert_id for one in found.newest] == ["a1"]
    assert [(one.rule, one.severity, one.alerts) for one in found.counts] == [("large-amount", "high", 1)]
    assert found.customers == 1
    assert data.alerts(session, now + timedelta(hours=2), 1) == records.Alerts((), 0, ())


def test_a_customer_has_versions_transactions_and_alerts(session: Session, now: datetime) -> None:
    found = data.customer(session, now, 42)
    assert found is not None
    assert [(one.reason, one.valid_to is None) for one in found.versions] == [("updated", True), ("created", False)]
    assert found.versions[0].changed == (("city", "Kiel", "Bergen"), ("email", "ada@example.org", "ember@example.net"))
    assert {one.transaction_id for one in found.transactions} == {1, 2, 3, 5, 7}
    assert [one.rule for one in found.alerts] == ["large-amount"]
    assert found.velocity is not None
    assert (found.velocity.currency, found.velocity.windows["24h"]["count"]) == ("EUR", 2)
    assert data.customer(session, now, 44) is None


def test_the_health_page_has_ledger_ages_and_dead_letters(session: Session, now: datetime) -> None:
    found = data.health(session, now, access.landing())
    assert [(one.topic, one.records) for one in found.topics] == [("bank.transactions", 9)]
    newest = found.topics[0].newest_row
    assert newest is not None
    assert now.replace(tzinfo=None) - newest < timedelta(minutes=1)
    assert [(one.reason, one.count) for one in found.dead_letters] == [("not_json", 1)]


def test_history_is_exact_to_the_last_cent(session: Session, gold: datetime) -> None:
    yesterday = (gold - timedelta(days=1)).date()
    volumes = data.history(session, gold, "day", "EUR", yesterday, yesterday)
    [found] = volumes.totals
    assert (volumes.groups, volumes.count) == (1, 3)
    assert (volumes.credit_amount, volumes.debit_amount) == (Decimal("9999999999999999.99"), Decimal("0.03"))
    assert (found.name, found.credit_amount, found.debit_amount) == (
        yesterday.isoformat(), Decimal("9999999999999999.99"), Decimal("0.03"),
    )  # fmt: skip
    by_risk = data.history(session, gold, "risk rating", "EUR", yesterday, yesterday)
    assert {one.name: one.debit_count for one in by_risk.totals} == {"low": 0, "high": 2}
    by_merchant = data.history(session, gold, "merchant", "EUR", yesterday, yesterday)
    # "none" is last although it has the largest sum.
    assert [one.name for one in by_merchant.totals] == ["M-1", "none"]
    for dimension in data.DIMENSIONS:
        volumes = data.history(session, gold, dimension, "EUR", yesterday, yesterday)
        assert (volumes.count, volumes.credit_amount) == (3, Decimal("9999999999999999.99"))
        assert data.history(session, gold, dimension, "EUR", date(2001, 1, 1), date(2001, 1, 2)).totals == ()


def test_input_text_is_bound_as_a_value_and_never_sql(session: Session, gold: datetime) -> None:
    day = gold.date() - timedelta(days=1)
    assert data.history(session, gold, "day", "EUR' OR '1'='1", day, day).count == 0
    with pytest.raises(KeyError):
        data.history(session, gold, "1; DROP TABLE x", "EUR", day, day)


@pytest.mark.usefixtures("gold")
def test_every_column_of_gold_that_is_read_is_in_dbts_contract(tables: Warehouse, session: Session) -> None:
    rows = session.rows(
        f"SELECT table_name, column_name FROM {tables.settings.database}.information_schema.columns WHERE table_schema = 'GOLD'"  # noqa: S608
    )
    assert len(rows) > 10
    for table, column in rows:
        model = yaml.safe_load((PROJECT / "dbt" / "models" / "gold" / f"{table.lower()}.yml").read_text())
        declared = {one["name"] for found in model["models"] for one in found["columns"]}
        assert column.lower() in declared, f"{table}.{column}"


@pytest.mark.usefixtures("now")
def test_the_live_page_shows_the_split(tables: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    text = said(app(tables, monkeypatch, "live"))
    assert "100.30" in text
    assert "50.0 % of all" in text
    assert "The newest row is of" in text


@pytest.mark.usefixtures("now")
def test_alerts_give_their_reason_escaped_and_lead_to_the_customer(
    tables: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = said(app(tables, monkeypatch, "alerts"))
    assert "far above &lt;b&gt;the usual&lt;/b&gt;" in text
    assert "customer?id=42" in text


@pytest.mark.usefixtures("now")
def test_personal_data_is_masked_unless_a_setting_allows_it(tables: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    hidden = said(app(tables, monkeypatch, "customer", id="42"))
    assert "personal data is masked" in hidden
    personal = ("Ada Ember", "Kiel", "Bergen", "ada@example.org", "ember@example.net")
    for secret in personal:
        assert secret not in hidden
    monkeypatch.setenv("BANKSTREAM_DASHBOARD_SHOW_PERSONAL_DATA", "true")
    shown = said(app(tables, monkeypatch, "customer", id="42"))
    for open_now in personal:
        assert open_now in shown


@pytest.mark.parametrize("number", ["4x", "-1", "1; DROP TABLE x", "9" * 19])
def test_an_invalid_customer_number_causes_no_query(
    tables: Warehouse, monkeypatch: pytest.MonkeyPatch, number: str
) -> None:
    assert "digits only" in said(app(tables, monkeypatch, "customer", id=number))


@pytest.mark.usefixtures("gold")
def test_the_health_and_history_pages_render(tables: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "not_json" in said(app(tables, monkeypatch, "health"))
    text = said(app(tables, monkeypatch, "history"))
    assert "9,999,999,999,999,999.99" in text


@pytest.mark.usefixtures("now")
def test_the_tables_file_is_read_once(tables: Warehouse, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = app(tables, monkeypatch, "health")
    monkeypatch.setenv("BANKSTREAM_TABLES_FILE", str(tmp_path / "gone.toml"))
    access.query_cache.clear()
    found.run()
    assert not found.exception
    assert "not_json" in said(found)


def test_an_invalid_tables_file_is_an_error_of_every_page(
    tables: Warehouse, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in tables.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("BANKSTREAM_TABLES_FILE", str(tmp_path / "gone.toml"))
    access.landing.clear()
    found = AppTest.from_file(str(PROJECT / "ops" / "dashboard" / "main.py"), default_timeout=60).run()
    assert not found.exception
    assert [str(tmp_path / "gone.toml") in one.value for one in found.error] == [True]
    assert not found.title
    access.landing.clear()


@pytest.mark.slow
# a thread of the connector tries to cancel the running statement at the stopped server
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_missing_gold_no_data_and_no_warehouse_have_different_messages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with warehouse(tmp_path) as empty:
        assert "not built yet" in said(app(empty, monkeypatch, "history"))
        assert "has landed" in said(app(empty, monkeypatch, "live"))
        build_gold(empty, datetime.now(UTC))
        empty.run("DELETE FROM BANK.GOLD.VOLUME_PER_MINUTE")
        assert "Gold is built but has no transactions" in said(app(empty, monkeypatch, "history"))
        session = Session(empty.settings)
        seconds = 0.0
        cache = QueryCache(session, ticks=lambda: seconds)
        a_live_bank(empty, datetime.now(UTC))
        known = cache.get(data.live, 15, every_s=4)
        empty.stop()
        seconds = 5
        away = cache.get(data.live, 15, every_s=4)
        assert away.value == known.value is not None
        assert away.read_at == known.read_at
        assert away.since is not None
        with pytest.raises(SinkUnavailableError):
            Session(empty.settings).rows("select 1")
        text = said(app(empty, monkeypatch, "live"))
        assert re.search(r"No data from the warehouse since 20\d\d-\d\d-\d\d", text)
        assert "The page has no earlier data to show" in text
        empty.start()
        seconds = 10
        back = cache.get(data.live, 15, every_s=4)
        assert back.fresh
        session.close()


@pytest.mark.usefixtures("now")
def test_the_navigation_leads_to_every_page(tables: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in tables.environment.items():
        monkeypatch.setenv(name, value)
    access.query_cache.clear()
    found = AppTest.from_file(str(PROJECT / "ops" / "dashboard" / "main.py"), default_timeout=60).run()
    assert not found.exception
    assert [one.value for one in found.title] == ["Live volume"]
    assert list(views.ALL) == ["Live", "Alerts", "Customer", "Health", "History"]


def test_without_credentials_it_says_which_setting_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BANKSTREAM_SNOWFLAKE_PASSWORD", raising=False)
    access.query_cache.clear()
    found = AppTest.from_string("from ops.dashboard.views import live\nlive.show()\n", default_timeout=60).run()
    assert not found.exception
    assert "BANKSTREAM_SNOWFLAKE_PRIVATE_KEY_PATH" in said(found)


def test_settings_come_from_secrets_where_the_environment_has_none(
    tables: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    access.query_cache.clear()
    found = AppTest.from_string("from ops.dashboard.views import live\nlive.show()\n", default_timeout=60)
    for name, value in tables.environment.items():
        found.secrets[name] = value
    found.secrets["BANKSTREAM_SNOWFLAKE_HOST"] = "nowhere.invalid"
    monkeypatch.setenv("BANKSTREAM_SNOWFLAKE_HOST", "127.0.0.1")
    assert "100.30" in said(found.run())


def test_the_demos_dashboard_responds_and_ends_with_the_demo(tables: Warehouse, tmp_path: Path) -> None:
    shown = Dashboard(tables.environment, tmp_path / "log")
    port = int(shown.start().rpartition(":")[2])
    try:
        eventually(lambda: healthy(port), timeout_s=60, message="the dashboard does not answer")
        addresses = [tuple(one.laddr) for one in psutil.net_connections("tcp") if one.status == "LISTEN"]
        listening = {host for host, number in addresses if number == port}
        assert listening == {"127.0.0.1"}
    finally:
        shown.stop()
    assert is_free(port)


def test_a_dashboard_ends_though_its_owner_was_killed(tables: Warehouse, tmp_path: Path) -> None:
    program = (
        "import os, pathlib, time\n"
        "from app.local.demo.dashboard import Dashboard\n"
        f"print(Dashboard(dict(os.environ), pathlib.Path({str(tmp_path / 'log')!r})).start(), flush=True)\n"
        "time.sleep(300)\n"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", program], cwd=PROJECT, env=os.environ | tables.environment, stdout=subprocess.PIPE, text=True
    )  # fmt: skip
    try:
        assert owner.stdout is not None
        port = int(owner.stdout.readline().strip().rpartition(":")[2])
        eventually(lambda: healthy(port), timeout_s=60, message="the dashboard does not answer")
    finally:
        owner.kill()
        owner.communicate()
    eventually(lambda: is_free(port), timeout_s=20, message="the dashboard outlives its owner")

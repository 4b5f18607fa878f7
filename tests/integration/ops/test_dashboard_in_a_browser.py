"""Tests the dashboard in a real browser: nothing is cut off at either width, and pages refresh without interaction."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.local.demo.dashboard import Dashboard
from tests.support.machine.waiting import eventually
from tests.support.web import chromium
from tests.support.web.chromium import Browser
from tests.support.web.dashboard import Warehouse, a_live_bank, build_gold, healthy, transaction, warehouse

pytestmark = [pytest.mark.integration, pytest.mark.slow]

PAGES = {
    "": "Newest bookings",
    "alerts": "Newest alerts",
    "customer?id=42": "Transactions changed",
    "health": "By topic",
    "history": "Debited",
}
"""By path, with words near the end of each."""
ON_A_PHONE = ("", "alerts", "customer?id=42", "health", "history")


@pytest.fixture(scope="module")
def program() -> str:
    return chromium.program()


@pytest.fixture(scope="module")
def tables(program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    del program  # without a browser the test is skipped before the warehouse starts
    with warehouse(tmp_path_factory.mktemp("warehouse")) as made:
        a_live_bank(made, datetime.now(UTC))
        build_gold(made, datetime.now(UTC))
        yield made


@pytest.fixture(scope="module")
def url(tables: Warehouse, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    shown = Dashboard(tables.environment, tmp_path_factory.mktemp("dashboard") / "log")
    try:
        found = shown.start()
        eventually(lambda: healthy(int(found.rpartition(":")[2])), timeout_s=60, message="Streamlit does not answer")
        yield found
    finally:
        shown.stop()


@pytest.fixture
def tab(program: str, tmp_path: Path) -> Iterator[Browser]:
    with chromium.browser(program, tmp_path / "profile") as found:
        yield found


def test_pages_fit_their_widths(tab: Browser, url: str) -> None:
    for width, path in [*((1280, path) for path in PAGES), *((390, path) for path in ON_A_PHONE)]:
        tab.open(f"{url}/{path}", width, 1200)
        tab.shows(PAGES[path])
        too_wide = tab.evaluate(
            f"[...document.querySelectorAll('main *')].some(e => e.getBoundingClientRect().right > {width} + 1)"
        )
        assert not too_wide, (path, width)
        if path in ("", "alerts", "history"):
            tab.has("[data-testid=stVegaLiteChart] :is(canvas, svg)", 2 if path == "" else 1)


def test_an_alert_leads_to_its_customer(tab: Browser, url: str) -> None:
    tab.open(f"{url}/alerts", 390, 1200)
    tab.shows("Newest alerts")
    tab.has(".alert a", 1)  # the heading appears before its content
    tab.evaluate("document.querySelector('.alert a').click()")
    tab.shows("Transactions changed")
    assert "personal data is masked" in tab.text()


def test_a_page_refreshes_by_itself_and_reports_an_unavailable_warehouse(
    tab: Browser, url: str, tables: Warehouse
) -> None:
    tab.open(url, 1280, 1200)
    tab.shows("Newest bookings")
    assert "5.55 EUR" not in tab.text()
    tables.land("TRANSACTIONS", transaction(9, datetime.now(UTC), 9, amount="5.55"))
    tab.shows("\u22125.55 EUR", settled=False)
    tables.stop()
    tab.shows("No data from the warehouse since", settled=False)
    assert "The page shows the data of" in tab.text()
    assert "\u22125.55 EUR" in tab.text()
    tables.start()
    tab.shows("The newest row is of", settled=False)
    assert "No data from the warehouse" not in tab.text()

"""Tests the lookup API over the agents' state in memory: responses, authorisation, and the audit log."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiokafka import ConsumerRecord, TopicPartition

from app.domain.times import format_us
from app.errors import SettingsError
from app.web.alerts import decode_header
from app.web.guard import FAILURES_PER_S
from app.web.partition_router import CUSTOMER
from app.web.tokens import TokensError, entry
from app.web.version_history import TooManyRecordsError
from sinks.base import SinkUnavailableError
from sinks.reading import StatementRefusedError
from tests.support.bank.cdc import COMMIT_US
from tests.support.web.lookups import CANARY, Bank


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    made = Bank(tmp_path)
    made.customer()
    made.account()
    return made


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["status"] == status
    return body


# -- responses ------------------------------------------------------------------------------------------------------


async def test_a_customer_lookup_returns_the_current_row_with_masked_personal_data(bank: Bank) -> None:
    bank.customer(op="u", city="Bergen")
    answer = await bank.get("/v1/customers/7")
    body = answer.json()
    assert answer.status_code == 200
    assert body["attributes"] == {
        "customer_id": 7, "name": "***", "email": "***", "country_code": "NO", "risk_rating": "low", "city": "***",
    }  # fmt: skip
    assert body["masked"] == ["city", "email", "name"]
    assert body["valid_from"] == format_us(COMMIT_US + 2_000_000)
    assert body["state"] == {"group": "by-customer", "partition": 0, "positions": {"bank.public.customers": 12}}
    assert CANARY not in answer.text


async def test_the_scope_pii_shows_everything(bank: Bank) -> None:
    body = (await bank.get("/v1/customers/7", "officer")).json()
    assert body["attributes"]["name"] == CANARY
    assert body["masked"] == []


async def test_a_column_that_nobody_has_classified_is_masked(bank: Bank) -> None:
    bank.customer(8, passport="N123")
    assert "N123" not in (await bank.get("/v1/customers/8")).text


async def test_a_null_is_masked_too(bank: Bank) -> None:
    bank.customer(8, phone=None)
    assert (await bank.get("/v1/customers/8")).json()["attributes"]["phone"] == "***"


async def test_money_keeps_the_digits_of_the_source(bank: Bank) -> None:
    bank.account(32, balance="12345678901234567890.10")
    body = (await bank.get("/v1/accounts/32")).json()
    assert body["attributes"]["balance"] == "12345678901234567890.10"
    assert body["masked"] == []


async def test_an_unknown_customer_is_404_and_a_deleted_one_410(bank: Bank) -> None:
    problem(await bank.get("/v1/customers/8"), 404)
    problem(await bank.get("/v1/accounts/8"), 404)
    problem(await bank.get("/v1/customers/8/velocity"), 404)
    problem(await bank.get("/v1/customers/8/versions"), 404)
    bank.customer(op="d")
    assert "deleted at 2026" in problem(await bank.get("/v1/customers/7"), 410)["detail"]


async def test_velocity_has_the_windows_that_end_now(bank: Bank) -> None:
    bank.transaction(1, "10.00", format_us(bank.now_us - 3_600_000_000 - 1))  # an hour and a microsecond ago: not in 1h
    bank.transaction(2, "20.00", format_us(bank.now_us - 299_000_000), counterparty_account="A", country_code="NO")
    bank.transaction(3, "5.55", format_us(bank.now_us), counterparty_account="B", country_code="SE")
    bank.transaction(4, "7.00", format_us(bank.now_us - 30_000_000), status="declined")
    bank.transaction(5, "1.00", format_us(bank.now_us - 30_000_000), currency="USD")
    bank.transaction(6, "99.00", format_us(bank.now_us + 1))  # in the future
    body = (await bank.get("/v1/customers/7/velocity")).json()
    assert body["complete"]
    assert body["as_of"] == format_us(bank.now_us)
    assert list(body["windows"]) == ["1m", "5m", "1h", "24h", "7d", "30d"]
    usd = {"sum": "1.00", "average": "1.00", "max": "1.00"}
    assert body["windows"]["1m"] == {
        "count": 2, "declined_count": 1, "distinct_counterparties": 1, "distinct_countries": 1,
        "amounts": {"EUR": {"sum": "5.55", "average": "5.55", "max": "5.55"}, "USD": usd},
    }  # fmt: skip
    assert body["windows"]["1h"]["amounts"]["EUR"] == {"sum": "25.55", "average": "12.78", "max": "20.00"}
    assert body["windows"]["1h"]["count"] == 3
    assert body["windows"]["24h"]["amounts"]["EUR"]["sum"] == "35.55"


async def test_velocity_of_a_customer_without_transactions_is_empty(bank: Bank) -> None:
    windows = (await bank.get("/v1/customers/7/velocity")).json()["windows"]
    assert windows["30d"]["count"] == 0
    assert windows["30d"]["amounts"] == {}


async def test_windows_with_too_many_transactions_are_left_out_and_the_others_are_exact(tmp_path: Path) -> None:
    bank = Bank(tmp_path, velocity_max_events=3)
    bank.customer()
    bank.account()
    for number in range(3):
        bank.transaction(number, "1.00", format_us(bank.now_us - 100_000_000))
    bank.transaction(9, "1.00", format_us(bank.now_us - 7_200_000_000))
    body = (await bank.get("/v1/customers/7/velocity")).json()
    assert not body["complete"]
    assert [name for name, window in body["windows"].items() if window is None] == ["24h", "7d", "30d"]
    assert body["windows"]["1h"]["count"] == 3


async def test_versions_are_the_whole_history_newest_first(bank: Bank) -> None:
    bank.customer(op="u", risk_rating="high")
    bank.customer(op="d", risk_rating="high")
    body = (await bank.get("/v1/customers/7/versions", "officer")).json()
    newest, oldest = body["versions"]
    assert body["total"] == 2
    assert oldest["attributes"]["name"] == CANARY
    assert (oldest["closed_by"], oldest["valid_to"]) == ("superseded", newest["valid_from"])
    assert (newest["closed_by"], newest["changed"]) == ("deleted", ["risk_rating"])
    masked = (await bank.get("/v1/customers/7/versions?limit=1")).json()
    assert [one["version_id"] for one in masked["versions"]] == [newest["version_id"]]
    assert masked["total"] == 2
    assert CANARY not in json.dumps(masked)


@pytest.mark.parametrize("lag", [1, 2, 3])
async def test_versions_that_have_not_landed_give_503_instead_of_an_incomplete_history(bank: Bank, lag: int) -> None:
    bank.customer(op="u", risk_rating="high")
    bank.warehouse.lag = lag
    answer = await bank.get("/v1/customers/7/versions")
    problem(answer, 503)
    assert int(answer.headers["retry-after"]) > 0


async def test_a_deletion_that_has_not_landed_gives_503(bank: Bank) -> None:
    bank.customer(op="d")
    bank.warehouse.lag = 1
    problem(await bank.get("/v1/customers/7/versions"), 503)


@pytest.mark.parametrize(
    ("failure", "says"),
    [
        (SinkUnavailableError("no session"), "does not answer"),
        (StatementRefusedError("not for this role: Ada", 3001), "does not answer"),
        (SettingsError("no credentials"), "does not answer"),
        (TooManyRecordsError("customers 7 has more than 20,000"), "more versions than the limit"),
    ],
)
async def test_a_warehouse_that_gives_no_versions_is_503(bank: Bank, failure: Exception, says: str) -> None:
    bank.warehouse.failure = failure
    told = problem(await bank.get("/v1/customers/7/versions/as-of?moment=2026-03-02T09:00:05Z"), 503)["detail"]
    assert says in told
    assert str(failure) not in told


@pytest.mark.parametrize(
    ("after_us", "found"),
    [(1_000_000, "low"), (1_999_999, "low"), (2_000_000, "high"), (5_000_000, "high"), (999_999, None)],
)
async def test_the_version_as_of_a_moment(bank: Bank, after_us: int, found: str | None) -> None:
    bank.customer(op="u", risk_rating="high")
    answer = await bank.get(f"/v1/customers/7/versions/as-of?moment={format_us(COMMIT_US + after_us)}")
    if found is None:
        problem(answer, 404)
    else:
        assert answer.json()["attributes"]["risk_rating"] == found


async def test_a_time_with_another_utc_offset_is_the_same_time(bank: Bank) -> None:
    answer = await bank.get("/v1/accounts/31/versions/as-of?moment=2026-03-02T10:00:01.5%2B01:00")
    assert answer.json()["attributes"]["balance"] == "1250.00"


@pytest.mark.parametrize("moment", ["yesterday", "2026-13-01", "2026-03-02T09:00:60Z", ""])
async def test_an_invalid_time_is_422(bank: Bank, moment: str) -> None:
    problem(await bank.get(f"/v1/customers/7/versions/as-of?moment={moment}"), 422)


async def test_a_future_time_is_404(bank: Bank) -> None:
    found = problem(await bank.get("/v1/customers/7/versions/as-of?moment=9999-12-31T23:59:59Z"), 404)
    assert found["detail"] == "That moment is in the future."


async def test_recent_alerts_newest_first_and_by_customer(bank: Bank) -> None:
    problem(await bank.get("/v1/alerts", "fraud"), 503)  # not read yet
    for offset in range(4):
        value = json.dumps(
            {"alert_id": f"a{offset}", "customer_id": offset % 2, "detected_at": format_us(offset)}
        ).encode()
        record = ConsumerRecord("bank.alerts", 0, offset, 0, 0, None, value, None, 0, 0, ())
        bank.recent._kept.append((decode_header(record) or pytest.fail("no alert"), record))
    bank.recent._current, bank.recent._next = True, {0: 4}
    body = (await bank.get("/v1/alerts?limit=3", "fraud")).json()
    assert [one["alert"]["alert_id"] for one in body["alerts"]] == ["a3", "a2", "a1"]
    assert (body["alerts"][0]["offset"], body["last_event_id"]) == (3, "0:4")
    mine = (await bank.get("/v1/alerts?customer_id=0", "fraud")).json()
    assert [one["alert"]["alert_id"] for one in mine["alerts"]] == ["a2", "a0"]


@pytest.mark.parametrize("event", ["0:1,1:2", "1:0", "0:1,0:2", "x", "0:-1", "0:1\x00", "0:99999999999999999999"])
async def test_an_id_that_is_no_event_of_the_stream_is_400(bank: Bank, event: str) -> None:
    problem(await bank.get("/v1/alerts/stream", "fraud", **{"last-event-id": event}), 400)


# -- authorisation --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/v1/customers/7", "/v1/alerts", "/metrics", "/v1/nothing", "/docs", "/", "/v1/customers/x"]
)
async def test_a_request_without_a_token_is_refused(bank: Bank, path: str) -> None:
    answer = await bank.get(path, None)
    problem(answer, 401)
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("given", ["", "Bearer", "Bearer ", "Basic x", "Bearer bst_wrong", "Bearer \xff"])
async def test_a_wrong_token_is_401(bank: Bank, given: str) -> None:
    problem(await bank.client.get("/v1/customers/7", headers=[(b"authorization", given.encode("latin-1"))]), 401)


@pytest.mark.parametrize(
    ("client", "path"),
    [
        ("fraud", "/v1/customers/7"), ("fraud", "/v1/customers/7/velocity"), ("fraud", "/v1/accounts/31/versions"),
        ("clerk", "/v1/alerts"), ("officer", "/v1/alerts/stream"), ("officer", "/metrics"), ("prometheus", "/v1/accounts/31"),
    ],
)  # fmt: skip
async def test_a_scope_opens_its_own_endpoints_only(bank: Bank, client: str, path: str) -> None:
    problem(await bank.get(path, client), 403)


async def test_a_token_taken_out_of_the_file_is_refused(tmp_path: Path) -> None:
    bank = Bank(tmp_path)
    bank.customer()
    now = [0.0]
    bank.api._tokens._clock = lambda: now[0]
    bank.api._tokens._looked = 0.0
    bank.write_tokens({"officer": bank.tokens["officer"]})
    assert (await bank.get("/v1/customers/7")).status_code == 200  # the file is checked once per second
    now[0] = 1.0
    problem(await bank.get("/v1/customers/7"), 401)
    bank.tokens_file.write_text("not toml [")
    now[0] = 2.0
    problem(await bank.get("/v1/customers/7", "officer"), 401)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("[a]\nsha256 = 'x'\nscopes = ['lookup']", "64 lower-case hexadecimal"),
        (f"[a]\nsha256 = '{'0' * 64}'\nscopes = ['admin']", "scopes must be a list of"),
        (f"[a]\nsha256 = '{'0' * 64}'\nscopes = []", "scopes must be a list of"),
        (f"[a]\nsha256 = '{'0' * 64}'\nscopes = ['pii']\nrate_per_s = 0", "rate_per_s"),
        (f"[a]\nsha256 = '{'0' * 64}'\nscopes = ['pii']\ntoken = 'x'", "unknown fields: token"),
        (
            f"[a]\nsha256 = '{'0' * 64}'\nscopes = ['pii']\n[b]\nsha256 = '{'0' * 64}'\nscopes = ['pii']",
            "the same token",
        ),
        ("a = 1", "outside of a"),
        ("[", "not valid TOML"),
    ],
)
def test_a_tokens_file_with_a_mistake_is_refused_with_what_is_wrong(tmp_path: Path, text: str, wrong: str) -> None:
    bank = Bank(tmp_path)
    bank.tokens_file.write_text(text)
    with pytest.raises(TokensError, match=wrong):
        bank.parts()


def test_a_tokens_file_that_others_may_write_is_refused(tmp_path: Path) -> None:
    bank = Bank(tmp_path)
    bank.tokens_file.chmod(0o622)
    with pytest.raises(TokensError, match="chmod go-w"):
        bank.parts()


@pytest.mark.parametrize(("name", "scopes"), [("a]\n[b", ("pii",)), ("a b", ("pii",)), ("a", ("admin",)), ("a", ())])
def test_an_entry_that_would_be_invalid_in_the_tokens_file_is_refused(name: str, scopes: tuple[str, ...]) -> None:
    with pytest.raises(TokensError):
        entry(name, "bst_x", scopes)


async def test_a_client_that_asks_too_often_waits_and_others_do_not(tmp_path: Path) -> None:
    bank = Bank(tmp_path, rate_per_s=2)
    bank.customer()
    bank.api._rates._clock = lambda: 0.0
    assert [(await bank.get("/v1/customers/7")).status_code for _ in range(5)] == [200, 200, 200, 200, 429]
    answer = await bank.get("/v1/customers/7")
    problem(answer, 429)
    assert answer.headers["retry-after"] == "1"
    assert (await bank.get("/v1/customers/7", "officer")).status_code == 200
    bank.api._rates._clock = lambda: 0.5
    assert (await bank.get("/v1/customers/7")).status_code == 200


async def test_the_limit_of_all_clients_together_leaves_time_for_the_stream(tmp_path: Path) -> None:
    bank = Bank(tmp_path, total_per_s=2)
    bank.customer()
    bank.api._rates._clock = lambda: 0.0
    clients = ("clerk", "officer", "clerk", "officer")
    assert [(await bank.get("/v1/customers/7", client)).status_code for client in clients] == [200] * 4
    for client in ("clerk", "officer"):
        answer = await bank.get("/v1/customers/7", client)
        assert "stream processing has priority" in problem(answer, 503)["detail"]
        assert answer.headers["retry-after"] == "1"
    assert (await bank.get("/metrics", "prometheus")).status_code == 200
    bank.api._rates._clock = lambda: 0.5
    assert (await bank.get("/v1/customers/7", "officer")).status_code == 200


async def test_wrong_tokens_cannot_flood_the_audit(bank: Bank) -> None:
    bank.api._rates._clock = lambda: 0.0
    codes = [(await bank.get("/v1/customers/7", None)).status_code for _ in range(50)]
    assert codes == [401] * (2 * FAILURES_PER_S) + [429] * (50 - 2 * FAILURES_PER_S)
    assert len(bank.audited) == 2 * FAILURES_PER_S
    assert (await bank.get("/v1/customers/7")).status_code == 200  # a client with a token is still accepted


# -- the audit ------------------------------------------------------------------------------------------------------


async def test_every_lookup_is_audited_without_what_it_found(bank: Bank) -> None:
    await bank.get("/v1/customers/7")
    await bank.get("/v1/customers/7", "officer", **{"x-request-id": "order-66"})
    await bank.get("/v1/customers/8", "officer")
    await bank.get("/v1/customers/7", "fraud")
    await bank.get("/v1/customers/7", None)
    await bank.get("/v1/customers/Ada%20Canary")
    await bank.get(f"/v1/Ada%20Canary/{bank.tokens['clerk']}")
    lines = bank.audited
    where = "/v1/customers/{customer_id}"
    assert [(it["client"], it["status"], it["endpoint"], it.get("key"), it.get("clear", False)) for it in lines] == [
        ("clerk", 200, where, 7, False), ("officer", 200, where, 7, True), ("officer", 404, where, 8, False),
        ("fraud", 403, where, None, False), ("-", 401, "unknown", None, False), ("clerk", 422, where, None, False),
        ("clerk", 404, "unknown", None, False),
    ]  # fmt: skip
    assert lines[1]["request_id"] == "order-66"
    text = bank.audit_file.read_text()
    assert "Canary" not in text
    assert not [token for token in bank.tokens.values() if token in text]


async def test_a_request_that_cannot_be_audited_is_refused(bank: Bank) -> None:
    bank.api._audit._descriptor = -1
    answer = await bank.get("/v1/customers/7", "officer")
    assert answer.status_code == 503
    assert CANARY not in answer.text
    assert "audit" in answer.json()["detail"]
    assert (await bank.get("/healthz", None)).status_code == 200


async def test_health_metrics_and_description(bank: Bank) -> None:
    assert (await bank.get("/healthz", None)).json() == {"status": "alive"}
    assert (await bank.get("/readyz", None)).json() == {"status": "ready"}
    bank.worker.is_ready = False
    problem(await bank.get("/readyz", None), 503)
    assert (await bank.get("/healthz", None)).status_code == 200
    assert "bankstream_api_requests_total" in (await bank.get("/metrics", "prometheus")).text
    document = (await bank.get("/openapi.json", None)).json()
    assert document["paths"]["/v1/customers/{customer_id}"]["get"]["security"] == [{"HTTPBearer": []}]
    described = document["paths"]["/v1/customers/{customer_id}"]["get"]["responses"]
    assert described["200"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/RowNow"}
    assert document["components"]["schemas"]["RowNow"]["properties"]["id"]["examples"] == [42]


# -- limits ---------------------------------------------------------------------------------------------------------


async def test_a_request_with_a_body_is_refused(bank: Bank) -> None:
    request = bank.client.build_request(
        "GET", "/v1/customers/7", content=b"{}", headers={"authorization": f"Bearer {bank.tokens['clerk']}"}
    )
    problem(await bank.client.send(request), 413)


async def test_an_answer_that_is_too_large_is_refused_with_what_to_do(tmp_path: Path) -> None:
    bank = Bank(tmp_path, max_answer_bytes=700)
    bank.customer()
    for number in range(5):
        bank.customer(op="u", risk_rating=str(number))
    assert "fewer items with `limit`" in problem(await bank.get("/v1/customers/7/versions"), 422)["detail"]
    assert (await bank.get("/v1/customers/7/versions?limit=1")).status_code == 200


async def test_a_lookup_that_takes_too_long_is_503(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bank = Bank(tmp_path, history_timeout_s=1)
    bank.customer()

    async def never(*_: Any) -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr(bank.warehouse, "records", never)
    assert "longer" in problem(await bank.get("/v1/customers/7/versions"), 503)["detail"]


async def test_a_defect_is_500_and_quotes_nothing(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError(CANARY)

    monkeypatch.setattr(bank.worker, "committed", broken)
    answer = await bank.get("/v1/customers/7")
    assert CANARY not in problem(answer, 500)["detail"]
    assert bank.audited[-1]["status"] == 500


# -- the owner ------------------------------------------------------------------------------------------------------


async def test_during_a_rebalance_the_answer_is_503_with_when_to_ask_again(bank: Bank) -> None:
    bank.worker.is_ready = False
    answer = await bank.get("/v1/customers/7")
    problem(answer, 503)
    assert answer.headers["retry-after"] == "1"


async def test_a_partition_that_is_not_open_here_is_503(bank: Bank) -> None:
    bank.worker.open = False
    problem(await bank.get("/v1/customers/7"), 503)


async def test_a_forwarded_request_is_not_forwarded_again(bank: Bank) -> None:
    bank.worker.elsewhere = {TopicPartition(CUSTOMER.topic, 0): "http://127.0.0.1:1"}
    assert (await bank.get("/v1/customers/7", **{"x-bankstream-hop": "1"})).status_code == 200  # it is open here
    bank.worker.open = False
    assert (
        "not open on this worker"
        in problem(await bank.get("/v1/customers/7", **{"x-bankstream-hop": "1"}), 503)["detail"]
    )
    assert bank.audited[-1]["forwarded"]


async def test_an_owner_that_is_gone_or_serves_nothing_is_503(bank: Bank) -> None:
    bank.worker.elsewhere = {TopicPartition(CUSTOMER.topic, 0): "http://127.0.0.1:1"}
    assert "does not answer" in problem(await bank.get("/v1/customers/7"), 503)["detail"]
    bank.worker.elsewhere = {TopicPartition(CUSTOMER.topic, 0): "unserved://worker-2"}
    assert "BANKSTREAM_API_PORT" in problem(await bank.get("/v1/customers/7"), 503)["detail"]

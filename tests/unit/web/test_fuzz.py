"""Tests the lookup API with schemathesis: every response to any request is described in OpenAPI, and none is a defect."""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from aiokafka import ConsumerRecord
from hypothesis import HealthCheck, given, settings
from schemathesis import Case
from schemathesis.checks import not_a_server_error

from app.domain.times import format_us
from app.web import guard
from app.web.alerts import decode_header
from app.web.api import STREAM_PATH, make_api
from tests.support.bank.cdc import json_bytes
from tests.support.web.lookups import CANARY, Bank

EXAMPLES = settings(
    max_examples=10, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
PATHS = (
    "/v1/customers/{customer_id}", "/v1/accounts/{account_id}", "/v1/customers/{customer_id}/velocity",
    "/v1/customers/{customer_id}/versions", "/v1/accounts/{account_id}/versions",
    "/v1/customers/{customer_id}/versions/as-of", "/v1/accounts/{account_id}/versions/as-of",
    "/v1/alerts", "/metrics", "/healthz", "/readyz",
)  # fmt: skip


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bank]:
    made = Bank(tmp_path_factory.mktemp("fuzz"), rate_per_s=10**9, total_per_s=10**9)
    for key in (-1, 0, 7, 42):
        made.customer(key)
        made.customer(key, op="u", risk_rating="high")
        made.account(key)
    made.transaction(1, "10.00", format_us(made.now_us - 1_000_000))
    value = json_bytes({"alert_id": "a", "customer_id": 7, "detected_at": format_us(made.now_us)})
    record = ConsumerRecord("bank.alerts", 0, 3, 0, 0, None, value, None, 0, 0, ())
    about = decode_header(record)
    assert about is not None
    made.recent._kept.append((about, record))
    made.recent._current, made.recent._next = True, {0: 4}
    made.write_tokens({"clerk": made.tokens["clerk"]})
    text = made.tokens_file.read_text().replace('["lookup"]', '["lookup", "alerts", "metrics"]')
    made.tokens_file.write_text(text)
    made.api = make_api(made.parts())
    with pytest.MonkeyPatch.context() as patched:
        # schemathesis tries wrong tokens and expects 401 for each; the limit on wrong tokens from one address is tested elsewhere
        patched.setattr(guard, "FAILURES_PER_S", 10**9)
        yield made
    assert 500 not in {line["status"] for line in made.audited}
    assert "Canary" not in made.audit_file.read_text()


@pytest.fixture(scope="module")
def described(bank: Bank) -> Any:
    return schemathesis.openapi.from_asgi("/openapi.json", bank.api)


def test_every_endpoint_is_fuzzed(described: Any) -> None:
    assert {*described} == {*PATHS, STREAM_PATH}


@pytest.mark.parametrize("path", PATHS)
def test_every_answer_is_as_described_and_none_is_a_defect(path: str, bank: Bank, described: Any) -> None:
    headers = {"Authorization": f"Bearer {bank.tokens['clerk']}"}

    @EXAMPLES
    @given(case=described[path]["GET"].as_strategy())
    def each(case: Case[Any]) -> None:
        # 503 is a documented response; a defect is 500
        answer = case.call_and_validate(headers=headers, excluded_checks=[not_a_server_error])
        assert answer.status_code != 500
        assert CANARY not in answer.text

    each()


def test_a_stream_refuses_invalid_event_ids(bank: Bank, described: Any) -> None:
    @EXAMPLES
    @given(case=described[STREAM_PATH]["GET"].as_strategy())
    def each(case: Case[Any]) -> None:
        given_id = str(dict(case.headers or {}).get("Last-Event-ID", "none"))
        headers = {"Authorization": f"Bearer {bank.tokens['clerk']}", "Last-Event-ID": given_id}
        assert case.call(headers=headers).status_code in {400, 422}

    each()

"""Tests amounts and timestamps as text: the fast conversions give the same results as the slow ones."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.money import to_decimal, to_minor
from app.domain.records import key_bytes, plain_id
from app.domain.times import MAX_US, MIN_US, format_us, normalize, parse_us

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
INSTANTS = st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30))  # noqa: DTZ001 - in UTC below


@given(st.integers(min_value=MIN_US, max_value=MAX_US))
def test_an_instant_is_written_in_utc_with_microseconds_and_read_back(instant_us: int) -> None:
    text = format_us(instant_us)
    moment = EPOCH + timedelta(microseconds=instant_us)
    assert text == moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
    assert (parse_us(text), normalize(text)) == (instant_us, text)


@pytest.mark.parametrize("sign", [-1, 1])
def test_instants_beyond_all_years_are_clamped(sign: int) -> None:
    assert format_us(sign << 80) == ("9999-12-31T23:59:59.999999Z" if sign > 0 else "0001-01-01T00:00:00.000000Z")


@given(
    INSTANTS,
    st.sampled_from(["Z", "", "+00:00", "-05:30"]),
    st.sampled_from(["T", " "]),
    st.sampled_from(["auto", "microseconds"]),
)
def test_normalising_a_text_equals_reading_and_writing_it(
    moment: datetime, zone: str, separator: str, precision: str
) -> None:
    text = moment.isoformat(separator, precision) + zone
    assert normalize(text) == format_us(parse_us(text))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("2026-03-01T09:00:00,000000Z", "a comma before the microseconds"),
        ("2026-03-01T10:00:00.00+0100", "another zone"),
        ("2026-W09-7T09:00:00.000000Z", "a week and its day"),
        ("2026-03-01 09:00:00.000000Z", "a space"),
    ],
)
def test_a_text_that_is_only_as_long_as_a_normal_one_is_made_normal(text: str, why: str) -> None:
    assert len(text) == len("2026-03-01T09:00:00.000000Z")
    assert normalize(text) == "2026-03-01T09:00:00.000000Z", why


def test_hour_24_is_the_next_midnight_where_python_reads_it() -> None:
    text = "2026-03-01T24:00:00.000000Z"
    try:
        datetime.fromisoformat(text)
    except ValueError:
        with pytest.raises(ValueError, match="hour"):
            normalize(text)
    else:
        assert normalize(text) == "2026-03-02T00:00:00.000000Z"


@pytest.mark.parametrize(
    "text",
    [
        "", "today", "2026-13-01T09:00:00.000000Z", "2026-03-01T25:00:00.000000Z", "infinity",
        "2026-03-01T09:00:00.0000x0Z", "2026_03_01T09:00:00.000000Z", "२026-03-01T09:00:00.000000Z",
    ],
)  # fmt: skip
def test_an_invalid_timestamp_is_refused_by_both_conversions(text: str) -> None:
    for read in (normalize, parse_us):
        with pytest.raises(ValueError, match=r".*"):
            read(text)


@given(st.integers(min_value=-(10**18) + 1, max_value=10**18 - 1))
def test_an_amount_is_written_and_read_back(minor: int) -> None:
    text = to_decimal(minor)
    assert Decimal(text) * 100 == minor
    assert to_minor(text) == minor


@given(st.text(alphabet="0123456789.-+ _e²९", max_size=22))
def test_a_text_is_an_amount_only_if_it_is_a_plain_decimal_of_at_most_two_digits(text: str) -> None:
    whole, point, fraction = text.removeprefix("-").partition(".")
    digits = whole + fraction
    plain = bool(whole) and bool(fraction) == bool(point) and digits.isascii() and digits.isdigit()
    if plain and len(whole) <= 16 and len(fraction) <= 12 and not fraction[2:].strip("0"):
        assert to_minor(text) == int(Decimal(text) * 100)
    else:
        with pytest.raises(ValueError, match=r".*"):
            to_minor(text)


@pytest.mark.parametrize(
    ("text", "minor", "why"),
    [
        ("12.3", 1230, "one digit after the point is tenths"),
        ("-12.3", -1230, "also below zero"),
        ("12.3000", 1230, "zeros behind it say nothing"),
        ("12.000000000000", 1200, "up to twelve digits of a column's scale"),
        ("9999999999999999.99", 999_999_999_999_999_999, "sixteen digits before the point"),
        ("-9999999999999999.99", -999_999_999_999_999_999, "and as many below zero"),
    ],
)
def test_an_amount_is_read_however_its_column_writes_it(text: str, minor: int, why: str) -> None:
    assert to_minor(text) == minor, why


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("10000000000000000.00", "seventeen digits before the point"),
        ("10000000000000000", "seventeen digits and no point"),
        ("1.0000000000000", "thirteen digits after the point"),
        ("1.0010", "a digit beyond hundredths that is not zero"),
    ],
)
def test_an_amount_of_more_digits_than_money_has_is_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=r"is not an amount of money|more than 2 digits"):
        assert to_minor(text) is None, why


def test_an_amount_that_decimal_would_take_but_no_column_has_is_refused() -> None:
    for text in ("1_000.00", " 1.00", "1e2", "NaN", "+1.00", ".50", "1.", "-.50"):
        with pytest.raises(ValueError, match=r".*"):
            to_minor(text)


@pytest.mark.parametrize("number", [0, 7, -7, (1 << 63) - 1, -(1 << 63)])
def test_a_key_of_one_64_bit_number_is_read_back(number: int) -> None:
    assert plain_id(key_bytes("account_id", number), "account_id") == number


@pytest.mark.parametrize(
    ("key", "why"),
    [
        (b'{"account_id":9223372036854775808}', "beyond 64 bits"),
        (b'{"account_id":-9223372036854775809}', "beyond 64 bits, below zero"),
        (b'{"account_id": 7}', "a space"),
        (b'{"account_id":07}', "a digit too many"),
        (b'{"account_id":+7}', "a sign"),
        (b'{"account_id":"7"}', "a text"),
        (b'{"account_ie":7}', "another column of the same length"),
        (b'{"account_id":7]', "no object"),
        (b'{"account_id":7}x', "more behind it"),
        (b'{"account_id":7,"b":8}', "two columns"),
        (b"", "nothing"),
    ],
)
def test_a_key_in_another_notation_is_not_plain(key: bytes, why: str) -> None:
    assert plain_id(key, "account_id") is None, why

"""Tests that latencies in buckets give the same percentiles as a list of all latencies, within the documented precision."""

import random

import pytest

from app.local.demo.latency import Histogram, Percentiles
from app.local.demo.load_latency import LoadLatency

PRECISION = 0.004


def exact(values: list[int], percent: float) -> int:
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * int(percent) // 100) - 1)]


@pytest.mark.parametrize("seed", range(5))
def test_percentiles_are_those_of_the_sorted_list_within_the_documented_precision(seed: int) -> None:
    generator = random.Random(seed)
    values = [int(generator.lognormvariate(10, 2)) for _ in range(5_000)]
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    for percent in (1, 50, 90, 99, 100):
        found = histogram.percentile_us(percent)
        assert found is not None
        assert abs(found - exact(values, percent)) <= PRECISION * exact(values, percent) + 1


@pytest.mark.parametrize("power", range(40))
def test_every_power_of_two_and_its_neighbours_stay_within_the_precision(power: int) -> None:
    for value in (2**power - 1, 2**power, 2**power + 1):
        histogram = Histogram()
        histogram.record(value)
        histogram.record(value * 4)  # so that the result is the middle of the bucket and not the maximum
        found = histogram.percentile_us(50)
        assert found is not None
        assert abs(found - value) <= PRECISION * value


def test_memory_does_not_grow_with_the_number_of_latencies() -> None:
    histogram = Histogram()
    generator = random.Random(1)
    for _ in range(100_000):
        histogram.record(generator.randrange(3_600_000_000))
    assert len(histogram._counts) < 128 * 32
    assert histogram.count == 100_000


def test_a_percentile_without_measurements_is_none_and_not_zero() -> None:
    assert Histogram().percentiles == Percentiles(None, None)


def test_clocks_that_disagree_give_zero_and_never_less() -> None:
    histogram = Histogram()
    histogram.record(-50)
    assert histogram.percentiles == Percentiles(0.0, 0.0)


PLACE = ("bank.public.transactions", 0)


def test_a_change_is_timed_when_the_ledger_first_passes_it() -> None:
    histogram = Histogram()
    coverage = LoadLatency(histogram)
    coverage.changed(PLACE, 10, commit_us=1_000, now_us=1_100)
    coverage.changed(PLACE, 12, commit_us=2_000, now_us=2_100)
    coverage.ledger({PLACE: 9}, now_us=3_000)
    assert histogram.count == 0
    coverage.ledger({PLACE: 11}, now_us=1_000 + 90)
    assert (histogram.count, histogram.max_us) == (1, 90)
    coverage.ledger({PLACE: 11}, now_us=9_000_000)
    assert histogram.count == 1
    coverage.ledger({PLACE: 500}, now_us=2_000 + 120)
    assert (histogram.count, histogram.max_us, coverage.waiting) == (2, 120, 0)


def test_a_change_that_the_ledger_passed_before_it_was_seen_counts_from_when_it_was_seen() -> None:
    histogram = Histogram()
    coverage = LoadLatency(histogram)
    coverage.ledger({PLACE: 50}, now_us=1)
    coverage.changed(PLACE, 50, commit_us=100, now_us=170)
    assert (histogram.count, histogram.max_us, coverage.waiting) == (1, 70, 0)


def test_rows_of_objects_count_as_loaded_when_the_ledger_has_passed_them_once_each() -> None:
    coverage = LoadLatency(Histogram())
    assert coverage.announced(PLACE, 99, rows=80)
    assert not coverage.announced(PLACE, 99, rows=80)
    assert coverage.announced(PLACE, 199, rows=70)
    coverage.ledger({PLACE: 98}, now_us=0)
    assert coverage.loaded_rows == 0
    coverage.ledger({PLACE: 99}, now_us=0)
    assert coverage.loaded_rows == 80
    coverage.ledger({PLACE: 300}, now_us=0)
    assert coverage.loaded_rows == 150
    assert coverage.announced(PLACE, 300, rows=5)
    assert coverage.loaded_rows == 155


def test_long_queues_are_cut_at_their_head() -> None:
    histogram = Histogram()
    coverage = LoadLatency(histogram)
    for offset in range(20_000):
        coverage.changed(PLACE, offset, commit_us=0, now_us=0)
    coverage.ledger({PLACE: 14_999}, now_us=1)
    assert len(coverage._queues[PLACE].offsets) == 5_000
    coverage.ledger({PLACE: 20_000}, now_us=2)
    assert (histogram.count, coverage.waiting) == (20_000, 0)

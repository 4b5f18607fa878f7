"""Runs the short version of `make faults SEED=… MINUTES=…`: a real bank, a fixed seed, overlapping faults, and a full verification."""

import sys

import pytest

from tests.faults import random_mode
from tests.faults.bank import bank
from tests.faults.rows import table
from tests.faults.run import Runner

SEED, SECONDS, EVENTS, LEAST_KILLS = 11, 20, 6_000, 4


@pytest.mark.integration
@pytest.mark.timeout(900)
def test_random_kills_of_workers_cause_no_lost_duplicated_or_wrong_records() -> None:
    with bank(seed=SEED, streams_workers=2) as under_test:
        rows = {name: row for name, row in table().items() if row.number in (1, 6)}
        outcome = random_mode.run(Runner(under_test, SEED, sys.stdout.write), rows, seconds=SECONDS, events=EVENTS)
    assert outcome.problems == []
    assert (outcome.lost, outcome.doubled, outcome.wrong) == (0, 0, 0)
    assert outcome.kills >= LEAST_KILLS
    assert outcome.events >= EVENTS / 2

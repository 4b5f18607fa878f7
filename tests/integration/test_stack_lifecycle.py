"""The stack starts, survives kills, keeps data, and leaves nothing behind."""

import pytest

from app.stack.stack import Stack

pytestmark = pytest.mark.integration


def test_a_part_added_later_leaves_the_running_ones_alone(kafka_stack: Stack, postgres_stack: Stack) -> None:
    before = kafka_stack.pid("kafka")
    postgres_stack.up()
    assert postgres_stack.pid("kafka") == before
    assert {status.name for status in postgres_stack.status() if status.state == "ready"} >= {"kafka", "postgres"}

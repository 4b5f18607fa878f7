"""Fixtures of real parts, for every integration test. The first that asks for a part starts it."""

from tests.support.machine.stack import backends_stack, kafka_stack, lake_stack, postgres_stack, stack_pool
from tests.support.streams.continuity import rig
from tests.support.streams.workers import environment, workers_stack
from tests.support.warehouse.proof import modelled, proof
from tests.support.warehouse.real_sinks import sinks_database, world

__all__ = [
    "backends_stack",
    "environment",
    "kafka_stack",
    "lake_stack",
    "modelled",
    "postgres_stack",
    "proof",
    "rig",
    "sinks_database",
    "stack_pool",
    "workers_stack",
    "world",
]

"""Defines the provisioning steps in the order in which they run. Every step is idempotent.

`bankstream provision` runs them on an existing deployment, `bankstream stack up` on the local stack. A step imports its modules when it
runs: the agents that the topics step needs take longer to import than most commands take to run.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from app.config.settings import ConnectSettings, EngineSettings, KafkaSettings, SourceSettings, read
from app.config.topics import read_catalogue

Variables = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Step:
    """One named step. `run` is called with variables that take precedence over the environment."""

    name: str
    run: Callable[[Variables], None]


def _source(variables: Variables) -> None:
    from app.operations.provision import source  # noqa: PLC0415 - see above

    source.provision(read(SourceSettings, variables), read_catalogue(variables))


def _topics(variables: Variables) -> None:
    from app.operations.provision import topics  # noqa: PLC0415
    from app.topology.partition_groups import groups  # noqa: PLC0415 - see above

    kafka, catalogue = read(KafkaSettings, variables), read_catalogue(variables)
    engine = read(EngineSettings, variables)
    asyncio.run(topics.provision(catalogue, groups(catalogue, kafka), kafka, engine))


def _connector(variables: Variables) -> None:
    from app.operations.provision import connector  # noqa: PLC0415 - see above

    catalogue = read_catalogue(variables)
    connector.provision(read(ConnectSettings, variables), read(SourceSettings, variables), catalogue)


def _lake(variables: Variables) -> None:
    from app.operations.provision import lake  # noqa: PLC0415 - see above

    lake.run(variables)


def _warehouse(variables: Variables) -> None:
    from app.operations.provision import warehouse  # noqa: PLC0415 - see above

    warehouse.run(variables)


SOURCE: Final = Step("source", _source)
TOPICS: Final = Step("topics", _topics)
CONNECTOR: Final = Step("connector", _connector)
LAKE: Final = Step("lake", _lake)
WAREHOUSE: Final = Step("warehouse", _warehouse)

DEFAULT: Final[tuple[Step, ...]] = (SOURCE, TOPICS, LAKE, WAREHOUSE, CONNECTOR)
"""The connector is last because Kafka Connect takes longest to start; the other steps run meanwhile."""

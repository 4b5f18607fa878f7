"""Builds the Faust app of the streams worker: `faust -A app.streams worker` or `bankstream worker streams`. The handlers are in agents/."""

from rocksdict import Cache

from app.config.settings import ApiSettings, EngineSettings, KafkaSettings, SnowflakeSettings, WorkerSettings, load
from app.config.topics import read_catalogue
from app.engine.engine import Engine
from app.engine.faust_hooks import App
from app.engine.instance import claim
from app.engine.subtopologies import transactional_subtopology
from app.topology.handlers import build_topology
from app.topology.partition_groups import STREAMS
from app.web.address import address


def make_app() -> App:
    """Returns the Faust app, with settings from the environment."""
    kafka, settings, api = load(KafkaSettings), load(EngineSettings), load(ApiSettings)
    engine = Engine(kafka, settings)
    instance, cache = claim(settings.state_dir), Cache(settings.block_cache_mb << 20)
    composed = build_topology(read_catalogue({}), load(WorkerSettings), kafka)
    for group, handlers in composed:
        engine.add(transactional_subtopology(group, handlers, engine, state=instance.directory, cache=cache))
    made = App(STREAMS, engine, instance, url=address(api))
    for group, handlers in composed:
        for topic in handlers:
            made.dispatch(topic, group.name)
    if api.port:
        from app.web import service  # noqa: PLC0415 - the import takes 128 MB and three seconds of CPU, so only when the API is on

        service.serve(made, api, kafka, load(SnowflakeSettings))
    return made


app = make_app()

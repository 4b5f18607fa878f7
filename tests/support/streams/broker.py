"""Provides an admin client of a test's broker, and removes topics and waits until they are gone."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka.admin import AIOKafkaAdminClient

from app.config.settings import KafkaSettings
from app.engine.kafka import connection
from tests.support.machine.waiting import until


@asynccontextmanager
async def admin_client(kafka: KafkaSettings) -> AsyncIterator[AIOKafkaAdminClient]:
    """A started admin client, closed at the end."""
    client = AIOKafkaAdminClient(**connection(kafka))
    await client.start()
    try:
        yield client
    finally:
        await client.close()


async def remove_topics(admin: AIOKafkaAdminClient, *topics: str) -> None:
    """Removes topics. Returns when the broker no longer knows them, because it answers before it removes them."""
    await admin.delete_topics(list(topics))

    async def are_gone() -> bool:
        return set(topics).isdisjoint(await admin.list_topics())

    await until(are_gone, timeout_s=30, message=f"topics {', '.join(topics)} are still there")

"""Fixtures of this folder: a PostgreSQL server, and an empty schema in it for each test."""

import asyncio
from itertools import count

import asyncpg
import pytest

from tests.postgres_server import NoPostgres, running


@pytest.fixture(scope="session")
def postgres_server():
    """The URL of a database on a server that is there for this session."""
    try:
        server = running()
        url = server.__enter__()
    except NoPostgres as error:
        pytest.skip(str(error))
    try:
        yield url
    finally:
        server.__exit__(None, None, None)


@pytest.fixture
def postgres_urls(postgres_server):
    """Makes URLs of empty schemas: one of Edda's, and one that tables without a schema go to."""
    made = []
    numbers = count()

    def make():
        mine = f"test_{next(numbers)}"
        asyncio.run(execute(postgres_server, f"CREATE SCHEMA {mine}_own"))
        made.extend([mine, f"{mine}_own"])
        return f"{postgres_server}&schema={mine}&search_path={mine}_own"

    yield make
    drops = [f"DROP SCHEMA IF EXISTS {name} CASCADE" for name in made]
    asyncio.run(execute(postgres_server, *drops))


@pytest.fixture
def postgres(postgres_urls):
    """The URL of an empty schema."""
    return postgres_urls()


async def execute(url, *statements):
    connection = await asyncpg.connect(url)
    for statement in statements:
        await connection.execute(statement)
    await connection.close()

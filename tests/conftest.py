"""What the engine's tests share: simulations on each store that answers at once, and PostgreSQL."""

import asyncio
from itertools import count

import asyncpg
import pytest

from edda.stores.memory import MemoryStore
from edda.stores.sqlite import DirectSqliteStore
from edda_testkit import Simulation
from tests.postgres_server import NoPostgres, running

pytest.register_assert_rewrite("tests.model")

STORES = {"memory": MemoryStore, "sqlite": DirectSqliteStore}


@pytest.fixture(params=STORES)
def world(request):
    """Makes simulations on one of the stores."""

    def make(**options):
        return Simulation(**{"store": make.store, **options})

    make.store = STORES[request.param]
    return make


@pytest.fixture
def sim(world):
    """A simulation on each of the stores; checked when the test ends well."""
    with world() as simulation:
        yield simulation


# ---- PostgreSQL: a server for the session, an empty schema for each test ----------------------


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

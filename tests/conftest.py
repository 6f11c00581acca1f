"""What the engine's tests share: simulations on each store that answers at once."""

import pytest

from edda.stores.memory import MemoryStore
from edda.stores.sqlite import DirectSqliteStore
from edda_testkit import Simulation

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

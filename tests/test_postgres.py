"""PostgreSQL as a store: the contract, and what is its own: many connections, machines, faults.

Run as a program, this module is the other process of some tests: `python test_postgres.py VERB ...`.
"""

import asyncio

import pytest

from edda.stores.postgres import PostgresStore
from edda_testkit import contract

CHECKS = contract.checks()


@pytest.mark.parametrize(("name", "check"), CHECKS, ids=[name for name, _ in CHECKS])
def test_postgres_keeps_the_contract(postgres, name, check):
    """Every law of the contract holds for the store in PostgreSQL."""
    check(lambda clock: PostgresStore(postgres, clock))

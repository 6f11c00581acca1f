"""The Store's contract as a test suite: for our stores, and for anybody's.

    check_store(lambda clock: MyStore("db://...", clock))

runs every check on a fresh store and says which laws are broken. A factory is given the clock
that the checks move and returns an empty store, or an async context manager of one, to make and
drop what is beneath; opening and closing the store is done here. With pytest, one test a check:

    @pytest.mark.parametrize(("name", "check"), contract.checks())
    def test_my_store(name, check):
        check(lambda clock: MyStore("db://...", clock))
"""

import asyncio

from edda_testkit.contract import (
    channels,
    competing,
    consequences,
    expiry,
    instances,
    leases,
    messages,
    outbox,
    recurring,
    transactions,
    waits,
)
from edda_testkit.contract.bench import Check, ContractClock, Factory

__all__ = ["Check", "ContractClock", "Factory", "check_store", "checks"]


ROOMS = (
    instances,
    leases,
    messages,
    waits,
    channels,
    competing,
    recurring,
    consequences,
    outbox,
    transactions,
    expiry,
)


def checks(*, is_durable: bool = True, is_patient: bool = True) -> list[tuple[str, Check]]:
    """Every check with its name.

    Without `is_durable`, none that closes and opens again; without `is_patient`, none where a call
    has to wait for an open transaction.
    """
    found = [one for room in ROOMS for one in vars(room).values() if isinstance(one, Check)]
    return [
        (one.name, one)
        for one in found
        if (is_durable or not one.needs_disk) and (is_patient or not one.needs_patience)
    ]


def check_store(factory: Factory, *, is_durable: bool = True, is_patient: bool = True) -> None:
    """Run every check (see `checks`) on a store of its own.

    Raises an `ExceptionGroup` with one `AssertionError` for each law that is broken; its cause is
    what the check found. Not to be called while an event loop runs.
    """
    wanted = checks(is_durable=is_durable, is_patient=is_patient)
    broken = asyncio.run(_broken(wanted, factory))
    if broken:
        raise ExceptionGroup(
            f"{len(broken)} of {len(wanted)} checks of the Store's contract failed", broken
        )


async def _broken(wanted: list[tuple[str, Check]], factory: Factory) -> list[AssertionError]:
    broken = []
    for name, check in wanted:
        (found,) = await asyncio.gather(check.run(factory), return_exceptions=True)
        if isinstance(found, BaseException):
            what = f"{type(found).__name__}: {found}".removeprefix("AssertionError: ")
            error = AssertionError(f"{name} ({check.law}): {check.text}\n{what}")
            error.__cause__ = found
            broken.append(error)
    return broken

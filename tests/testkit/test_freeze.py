"""The projection of a virtual clock into user code: what shows it, what stays real, what is left.

User code is modelled by modules made here, which bind `datetime` and `time` as modules do.
"""

import asyncio
import calendar
import importlib
import logging
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta
from types import ModuleType, SimpleNamespace
from typing import Annotated
from zoneinfo import ZoneInfo

import freezegun.api
import pydantic
import pytest
import time_machine
from freezegun import freeze_time
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, FutureDatetime, PastDate, PastDatetime, TypeAdapter, ValidationError

from edda_testkit.clock import VirtualClock, VirtualLoop
from edda_testkit.freeze import FreezeError, Freezer

START = datetime(2000, 1, 1, tzinfo=UTC)
NEW_YEAR_2024 = datetime(2024, 1, 1, tzinfo=UTC)
# Not as globals of this module, which is user code to freezegun: it would replace them.
REAL = SimpleNamespace(datetime=datetime, date=date, time=time.time)
HOUR = timedelta(hours=1)


def shown():
    """What user code sees: it asks the module, as most code does."""
    return sys.modules["datetime"].datetime.now(UTC)


def is_all_real():
    modules = [module for module in sys.modules.values() if module is not freezegun.api]
    fakes = {id(freezegun.api.FakeDatetime), id(freezegun.api.FakeDate)}
    fakes |= {id(v) for k, v in vars(freezegun.api).items() if k.startswith("fake_")}
    left = [
        (module.__name__, name)
        for module in modules
        for name, value in list(getattr(module, "__dict__", {}).items())
        if id(value) in fakes
    ]
    assert left == []
    assert sys.modules["datetime"].datetime is REAL.datetime
    assert time.time is REAL.time
    assert freezegun.api.freeze_factories == []
    assert freezegun.api.call_stack_inspection_limit == 5
    assert freezegun.api.FakeDatetime.__name__ == "FakeDatetime"
    assert "__get_pydantic_core_schema__" not in vars(freezegun.api.FakeDatetime)
    return time_machine.traveller_stack == []


def module_of_user(name, source):
    module = ModuleType(name)
    exec(source, vars(module))
    sys.modules[name] = module
    return module


@pytest.fixture(autouse=True)
def nothing_is_left():
    """Whatever a test does, everything is real after it."""
    assert is_all_real()
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("user_"):
            del sys.modules[name]
    assert is_all_real()


@pytest.fixture
def clock():
    return VirtualClock(START)


@pytest.fixture(params=["freezegun", "time-machine"])
def any_freezer(request):
    return Freezer(request.param)


@pytest.fixture
def freezer():
    return Freezer()


# ---- what user code sees ---------------------------------------------------------------------


USER_CODE = """
import datetime, time, uuid
from datetime import datetime as dt, date
from time import time as now, time_ns, gmtime, localtime, strftime

def read():
    return {
        "dt.now": dt.now(datetime.timezone.utc),
        "naive": dt.now().replace(tzinfo=datetime.timezone.utc),
        "utcnow": dt.utcnow().replace(tzinfo=datetime.timezone.utc),
        "module": datetime.datetime.now(datetime.timezone.utc),
        "today": dt.combine(date.today(), datetime.time(), datetime.timezone.utc),
        "time": dt.fromtimestamp(now(), datetime.timezone.utc),
        "time_ns": dt.fromtimestamp(time_ns() / 1e9, datetime.timezone.utc),
        "time.time": dt.fromtimestamp(time.time(), datetime.timezone.utc),
        "gmtime": dt(*gmtime()[:6], tzinfo=datetime.timezone.utc),
        "strftime": dt.fromisoformat(strftime("%Y-%m-%dT%H:%M:%S+00:00", gmtime())),
    }
"""


@pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow")
def test_every_clock_of_user_code_shows_virtual_time(any_freezer, clock):
    """Ten ways to ask for the time agree, in code loaded before and during a projection."""
    before = module_of_user("user_before", USER_CODE)
    with any_freezer.project(clock):
        during = module_of_user("user_during", USER_CODE)
        assert set(before.read().values()) == set(during.read().values()) == {START}
        clock.move_to(START + timedelta(days=366))
        assert set(before.read().values()) == set(during.read().values()) == {clock.now()}
    real = datetime.now(UTC)
    for module in (before, during):
        assert all(abs(at - real) < timedelta(days=2) for at in module.read().values())
    assert during.dt is REAL.datetime


def test_microseconds_are_exact(any_freezer, clock):
    """What is shown is the clock's instant to the microsecond."""
    with any_freezer.project(clock):
        for at in ("2024-02-29T23:59:59.999999", "2030-03-01T00:00:00.000001"):
            clock.move_to(datetime.fromisoformat(at).replace(tzinfo=UTC))
            assert shown() == clock.now()


def test_loggers_and_uuids_show_virtual_time(any_freezer, clock, caplog):
    """Log records and uuid1 carry virtual time, as they ask `time` for it."""
    with any_freezer.project(clock):
        logging.getLogger("user").warning("hello")
        stamp = (uuid.uuid1().time - 0x01B21DD213814000) / 1e7
    assert caplog.records[0].created == START.timestamp()
    assert abs(stamp - START.timestamp()) < 0.001


def test_stopwatches_stay_real(any_freezer, clock):
    """`monotonic` and `perf_counter` go on, however bound, and do not jump with the clock."""
    source = "from time import monotonic, monotonic_ns, perf_counter, perf_counter_ns\nimport time"
    before = module_of_user("user_watch", source)
    with any_freezer.project(clock):
        during = module_of_user("user_watch_too", source)
        began = [m.monotonic() for m in (before, during)] + [time.perf_counter()]
        clock.move_to(START + timedelta(days=1000))
        time.sleep(0.001)
        ended = [m.monotonic() for m in (before, during)] + [time.perf_counter()]
        for module in (before, during, before.time):
            assert module.monotonic() is not freezegun.api.real_monotonic()
            assert abs(module.monotonic_ns() / 1e9 - module.monotonic()) < 1
            assert abs(module.perf_counter_ns() / 1e9 - module.perf_counter()) < 1
    assert all(0.001 <= end - begin < 1 for begin, end in zip(began, ended, strict=True))


def test_threads_show_virtual_time(any_freezer, clock):
    """Threads of asyncio's pool and others show it, even to a clock passed as the function."""
    loop = VirtualLoop(clock)
    seen = []

    def read():
        return (time.time(), sys.modules["datetime"].datetime.now(UTC).timestamp())

    async def main():
        await asyncio.sleep(60)
        seen.append(await asyncio.to_thread(read))
        seen.append(await loop.run_in_executor(None, read))
        seen.append(
            (await asyncio.to_thread(time.time), await loop.run_in_executor(None, time.time))
        )

    with any_freezer.project(clock):
        task = loop.create_task(main())
        loop.run_ready()
        clock.move_to(clock.next_due())
        clock.pop_due()()
        loop.run_ready()
        while loop.is_waiting_outside():
            loop.wait_outside(10)
            loop.run_ready()
        with ThreadPoolExecutor(1) as pool:
            seen.append(pool.submit(read).result())
        thread = threading.Thread(target=lambda: seen.append(read()))
        thread.start()
        thread.join()
    loop.close()
    assert task.done()
    assert set(seen) == {(START.timestamp() + 60,) * 2}


def test_asyncio_is_not_stopped(any_freezer, clock):
    """A real `asyncio.sleep` and `wait_for` beside a projection take their real time."""

    async def main():
        await asyncio.sleep(0.001)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 0.001)

    with any_freezer.project(clock):
        asyncio.run(main())


def test_hypothesis_does_not_see_virtual_jumps(any_freezer):
    """A leap of an hour inside an example breaks no deadline."""

    @settings(deadline=200, max_examples=5, database=None)
    @given(st.integers())
    def example(_):
        clock = VirtualClock(START)
        with any_freezer.project(clock):
            clock.move_to(START + HOUR)
            assert shown() == START + HOUR

    with ExitStack() as ends:
        any_freezer.hold()
        ends.callback(any_freezer.release)
        example()


def test_pytest_reports_real_durations(pytester):
    """A test that jumps a hundred days is reported to take milliseconds."""
    pytester.makeini("[pytest]")
    pytester.makepyfile(
        """
        import datetime as dt, pytest
        from edda_testkit.clock import VirtualClock
        from edda_testkit.freeze import Freezer

        @pytest.fixture
        def clock():
            clock = VirtualClock(dt.datetime(2000, 1, 1, tzinfo=dt.UTC))
            with Freezer().project(clock):
                yield clock

        def test_jump(clock):
            clock.move_to(clock.now() + dt.timedelta(days=100))
        """
    )
    result = pytester.inline_run("-p", "no:cacheprovider", "-p", "no:asyncio")
    result.assertoutcome(passed=1)
    for report in result.getreports("pytest_runtest_logreport"):
        assert 0 <= report.duration < 60
        assert abs(report.start - time.time()) < 600


def test_only_the_rooms_named_are_ignored(freezer, clock):
    """A user's package whose name begins like one of ours sees virtual time."""
    source = "import time\ndef read(): return time.time()"
    names = ["edda_orders", "anyio_user", "asyncio_user", "concurrently", "hypothesis_user"]
    modules = [module_of_user(name, source) for name in names]
    real = module_of_user("edda.user_room", source)
    try:
        with freezer.project(clock):
            assert [module.read() for module in modules] == [START.timestamp()] * len(modules)
            assert real.read() > START.timestamp() + 1e8
    finally:
        for name in (*names, "edda.user_room"):
            del sys.modules[name]


def test_off_shows_real_time(clock):
    """With backend "off" nothing is patched, adopted or imported."""
    freezer = Freezer("off")
    freezer.hold()
    with freezer.project(clock) as to_front:
        to_front()
        assert sys.modules["datetime"].datetime is REAL.datetime
        assert shown() > NEW_YEAR_2024
    freezer.release()
    with freeze_time("2024-01-01"):
        assert freezer.foreign_now() is None


# ---- holding and releasing -------------------------------------------------------------------


def test_a_held_freezer_shows_real_time(freezer, clock):
    """Between projections the base shows real time, in UTC and in local time."""
    freezer.hold()
    freezer.hold()
    with freezer.project(clock):
        assert shown() == START
    module = module_of_user("user_held", USER_CODE)
    assert abs(module.dt.now(UTC) - REAL.datetime.now(UTC)) < timedelta(seconds=5)
    assert abs(module.dt.now() - REAL.datetime.now()) < timedelta(seconds=5)
    assert abs(module.time.time() - REAL.time()) < 5
    assert module.localtime()[:5] == freezegun.api.real_localtime()[:5]
    assert freezer.is_held
    assert freezer.foreign_now() is None
    freezer.release()
    freezer.release()
    assert not freezer.is_held


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/New_York", "Australia/Sydney"])
def test_local_time_is_real_under_a_held_freezer(zone):
    """In a zone far from UTC the base still shows local time, and a projection shows UTC."""
    code = """
import datetime as dt, time
from edda_testkit.clock import VirtualClock
from edda_testkit.freeze import Freezer
kept, freezer = [dt.datetime], Freezer()
freezer.hold()
real, fake, soon = kept[0], dt.datetime, dt.timedelta(seconds=5)
assert fake is not real
assert abs(fake.now() - real.now()) < soon
assert abs(fake.today() - real.today()) < soon
assert abs(fake.utcnow() - real.utcnow()) < soon
assert abs(fake.now(dt.UTC) - real.now(dt.UTC)) < soon
assert abs(fake.now().timestamp() - time.time()) < 5
for day in (real(2024, 1, 1, 12), real(2024, 7, 1, 12)):
    assert fake(*day.timetuple()[:6]).timestamp() == day.timestamp()
now = int(time.time())
assert fake.fromtimestamp(now) == real.fromtimestamp(now)
assert time.localtime().tm_gmtoff == GMTOFF
with freezer.project(VirtualClock(real(2000, 1, 1, tzinfo=dt.UTC))):
    assert dt.datetime.now() == real(2000, 1, 1)
freezer.release()
with Freezer("time-machine").project(VirtualClock(real(2000, 1, 1, tzinfo=dt.UTC))):
    assert dt.datetime.now() == real(2000, 1, 1)
assert time.localtime().tm_gmtoff == GMTOFF
"""
    code = code.replace(
        "GMTOFF", str(REAL.datetime.now(ZoneInfo(zone)).utcoffset().total_seconds())
    )
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code]
    subprocess.run(command, check=True, env={"TZ": zone, "PYTHONPATH": ":".join(sys.path)})


def test_a_projection_alone_begins_and_ends_its_own_base(freezer, clock):
    """Without `hold` everything is real right after the block, also when the block fails."""
    with pytest.raises(ZeroDivisionError), freezer.project(clock):
        _ = 1 / (shown() - START).total_seconds()
    assert is_all_real()
    with freezer.project(clock):
        assert shown() == START


def test_holding_during_a_projection_keeps_its_base(freezer, clock):
    """`hold` inside a projection lets the base outlive it."""
    with freezer.project(clock):
        freezer.hold()
    assert freezer.is_held
    assert freezegun.api.freeze_factories
    freezer.release()


def test_a_projection_under_a_held_freezer_is_cheap(freezer, clock):
    """Projecting takes microseconds and moving about one; only the base costs milliseconds."""
    freezer.hold()

    def project():
        with freezer.project(clock):
            pass

    assert min(timed(project) for _ in range(200)) < 0.0005
    with freezer.project(clock):
        instants = [clock.now() + timedelta(seconds=n) for n in range(1000)]
        assert min(timed(lambda at=at: clock.move_to(at)) for at in instants) < 0.0001
    freezer.release()


def timed(work):
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def test_releasing_too_early_is_an_error_and_harmless(freezer, clock):
    """`release` inside a projection is refused; the projection goes on."""
    with freezer.project(clock):
        with pytest.raises(FreezeError) as caught:
            freezer.release()
        assert shown() == START
    assert str(caught.value) == (
        "release() was called while a simulation is open: close the simulation first."
    )


def test_modules_imported_meanwhile_are_mended(freezer, clock, tmp_path, monkeypatch):
    """No module keeps a fake, not even an ignored one or one that was imported anew."""
    (tmp_path / "user_lazy.py").write_text(
        "from datetime import datetime as D, date\nfrom time import time"
    )
    (tmp_path / "aiosqlite.py").write_text((tmp_path / "user_lazy.py").read_text())
    monkeypatch.syspath_prepend(tmp_path)
    lazy = importlib.import_module("user_lazy")
    del sys.modules["user_lazy"]
    (tmp_path / "pytest_user.py").write_text(
        "from datetime import datetime\nfrom time import time_ns"
    )
    with freezer.project(clock):
        lazy = importlib.import_module("user_lazy")
        ignored = importlib.import_module("pytest_user")
        assert lazy.D.now(UTC) == START
        assert ignored.datetime is not REAL.datetime
    del sys.modules["pytest_user"]
    assert (lazy.D, lazy.date, lazy.time) == (REAL.datetime, REAL.date, REAL.time)
    assert ignored.datetime is REAL.datetime
    assert ignored.time_ns is time.time_ns


def test_our_own_datetimes_stay_real(any_freezer, clock):
    """What the clock and the freezer hand out is of the real class, also while projecting."""
    with any_freezer.project(clock):
        clock.move_to(sys.modules["datetime"].datetime.now(UTC) + HOUR)
        handed = [clock.now(), clock.start]
    with freeze_time("2024-01-01"):
        handed.append(any_freezer.foreign_now())
    assert {type(at) for at in handed} == {REAL.datetime}


def test_nothing_is_imported_before_it_is_needed():
    """Importing the rooms loads neither freezegun nor time-machine nor pydantic."""
    code = (
        "import sys; from edda_testkit import freeze, freeze_stacks, pydantic_time, clock;"
        "print(sorted({'freezegun', 'time_machine', 'pydantic', 'pytest'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---- several at once -------------------------------------------------------------------------


@pytest.mark.parametrize("first_out", [0, 1])
def test_projections_end_in_any_order(any_freezer, first_out):
    """Of two open projections the one that moved last is shown, whichever closes first."""
    clocks = [VirtualClock(START), VirtualClock(NEW_YEAR_2024)]
    blocks = [any_freezer.project(clock) for clock in clocks]
    to_front = [block.__enter__() for block in blocks]
    assert shown() == NEW_YEAR_2024
    clocks[0].move_to(START + HOUR)
    assert shown() == START + HOUR
    to_front[1]()
    assert shown() == NEW_YEAR_2024
    blocks[first_out].__exit__(None, None, None)
    left = clocks[1 - first_out]
    left.move_to(left.now() + HOUR)
    assert shown() == left.now()
    blocks[1 - first_out].__exit__(None, None, None)
    assert is_all_real()


@pytest.mark.parametrize("holder", [True, False])
def test_freezers_of_others_are_not_taken_for_the_users(clock, holder):
    """A second freezer works beside a first one, held or projecting, and starts nowhere special."""
    first, second = Freezer(), Freezer()
    with ExitStack() as ends:
        if holder:
            first.hold()
            ends.callback(first.release)
        else:
            ends.enter_context(first.project(VirtualClock(NEW_YEAR_2024)))
        assert second.foreign_now() is None
        second.hold()
        with second.project(clock):
            assert shown() == START
        assert shown() > START
        second.release()


# ---- freezes of the user's own ---------------------------------------------------------------


@pytest.mark.parametrize("held", [True, False])
def test_a_users_freeze_gives_the_start_and_follows(any_freezer, held):
    """The clock starts where the user froze time, and the user's object moves along with it."""
    if held:
        any_freezer.hold()
    with freeze_time("2024-01-01") as frozen:
        assert any_freezer.foreign_now() == NEW_YEAR_2024
        clock = VirtualClock(any_freezer.foreign_now())
        with any_freezer.project(clock):
            clock.move_to(NEW_YEAR_2024 + HOUR)
            assert shown() == any_freezer.foreign_now() == NEW_YEAR_2024 + HOUR
            assert frozen().replace(tzinfo=UTC) == NEW_YEAR_2024 + HOUR
        assert shown() == NEW_YEAR_2024 + HOUR
        frozen.tick(HOUR)
        assert shown() == NEW_YEAR_2024 + 2 * HOUR
        assert vars(frozen).keys() == {"time_to_freeze"}
    assert any_freezer.foreign_now() is None
    any_freezer.release()


@pytest.mark.parametrize(
    "move",
    [
        lambda frozen: frozen.tick(HOUR),
        lambda frozen: frozen.tick(3600),
        lambda frozen: frozen.tick(delta=3600.0),
        lambda frozen: frozen.move_to("2024-01-01 01:00"),
        lambda frozen: frozen.move_to(NEW_YEAR_2024 + HOUR),
    ],
)
@pytest.mark.parametrize("tick", [True, False])
def test_a_users_move_asks_the_simulation(freezer, move, tick):
    """`tick` and `move_to` of the user's object fire what is due on the way, at its due instant."""
    with freeze_time("2024-01-01", tick=tick) as frozen:
        clock = VirtualClock(NEW_YEAR_2024)
        fired = []

        def step_to(target):
            while (due := clock.next_due()) and due <= target:
                clock.move_to(due)
                fired.append((clock.pop_due()(), shown()))
            clock.move_to(target)

        clock.call_at(NEW_YEAR_2024 + HOUR / 2, "half".upper)
        clock.call_at(NEW_YEAR_2024 + 2 * HOUR, "later".upper)
        with freezer.project(clock, on_foreign_move=step_to):
            move(frozen)
            assert fired == [("HALF", NEW_YEAR_2024 + HOUR / 2)]
            assert clock.now() == shown() == NEW_YEAR_2024 + HOUR
        frozen.tick(1)
        assert clock.now() == NEW_YEAR_2024 + HOUR


def test_a_users_move_moves_the_clock_by_default(freezer):
    """Without a callback the clock itself is moved, and refuses to go back."""
    with freeze_time("2024-01-01") as frozen:
        clock = VirtualClock(NEW_YEAR_2024)
        with freezer.project(clock):
            frozen.tick(60)
            assert clock.now() == shown() == NEW_YEAR_2024 + timedelta(minutes=1)
            with pytest.raises(ValueError) as caught:
                frozen.move_to("2023-01-01")
            assert "never goes backward" in str(caught.value)
            assert clock.now() == shown() == NEW_YEAR_2024 + timedelta(minutes=1)


def test_a_decorated_test_may_end_before_its_fixtures(freezer):
    """A projection opened under `@freeze_time` and closed after it leaves nothing behind."""
    ends = ExitStack()

    @freeze_time("2024-01-01")
    def body():
        clock = VirtualClock(freezer.foreign_now())
        ends.enter_context(freezer.project(clock))
        clock.move_to(NEW_YEAR_2024 + HOUR)
        assert shown() == NEW_YEAR_2024 + HOUR
        return clock

    clock = body()
    assert sys.modules["datetime"].datetime is REAL.datetime
    clock.move_to(clock.now() + HOUR)
    ends.close()


def test_a_freeze_inside_a_simulation_is_the_users(freezer, clock):
    """A freeze begun and ended inside a projection shows its own time, then the clock's again."""
    with freezer.project(clock):
        with freeze_time("2024-01-01"):
            clock.move_to(START + HOUR)
            assert shown() == NEW_YEAR_2024
            assert freezer.foreign_now() == NEW_YEAR_2024
        assert shown() == START + HOUR


def test_a_freeze_that_outlives_the_simulation_is_an_error(freezer, clock):
    """A freeze begun inside and not ended there is named; ending it makes the release work."""
    user = freeze_time("2024-01-01")
    with pytest.raises(FreezeError) as caught, freezer.project(clock):
        user.start()
    assert str(caught.value) == (
        "A freeze_time() that began inside a simulation has not ended, so time cannot be "
        "made real again: end it before the simulation, or begin it before."
    )
    assert shown() == NEW_YEAR_2024
    user.stop()
    assert shown() > NEW_YEAR_2024
    freezer.release()


def test_two_simulations_under_one_freeze(freezer):
    """Both follow the user's object, and its methods are its own again after the last."""
    with freeze_time("2024-01-01") as frozen:
        clocks = [VirtualClock(NEW_YEAR_2024), VirtualClock(NEW_YEAR_2024)]
        blocks = [freezer.project(clock) for clock in clocks]
        for block in blocks:
            block.__enter__()
        frozen.tick(60)
        assert [clock.now() for clock in clocks] == [NEW_YEAR_2024 + timedelta(minutes=1)] * 2
        blocks[0].__exit__(None, None, None)
        frozen.tick(60)
        assert clocks[1].now() == NEW_YEAR_2024 + timedelta(minutes=2)
        blocks[1].__exit__(None, None, None)
        assert vars(frozen).keys() == {"time_to_freeze"}


def test_a_projection_that_leaves_gives_the_users_freeze_back(freezer):
    """When one of several projections ends, the user's object stands where the shown one does."""
    with freeze_time("2024-01-01") as frozen:
        with freezer.project(VirtualClock(NEW_YEAR_2024)):
            with freezer.project(VirtualClock(NEW_YEAR_2024 + 24 * HOUR)):
                assert frozen().replace(tzinfo=UTC) == NEW_YEAR_2024 + 24 * HOUR
            assert frozen().replace(tzinfo=UTC) == NEW_YEAR_2024
        assert shown() == NEW_YEAR_2024


def test_a_users_zone_and_ignored_modules_are_kept(freezer):
    """Under `freeze_time(tz_offset=, ignore=)` both hold while we project, and after."""
    source = "import time\ndef read(): return time.time()"
    module = module_of_user("user_ignored", source)
    with freeze_time("2024-01-01", tz_offset=-4, ignore=["user_ignored"]):
        before = list(freezegun.api.ignore_lists)
        with freezer.project(VirtualClock(NEW_YEAR_2024)):
            naive = sys.modules["datetime"].datetime.now()
            assert naive.replace(tzinfo=UTC) == NEW_YEAR_2024 - 4 * HOUR
            assert module.read() > NEW_YEAR_2024.timestamp() + 1e7
        assert freezegun.api.ignore_lists == before


def test_a_freeze_that_steps_gives_the_start(freezer):
    """Under `auto_tick_seconds` the clock's own time is shown, and steps go on after it."""
    with freeze_time("2024-01-01", auto_tick_seconds=15):
        clock = VirtualClock(freezer.foreign_now())
        assert clock.now() == NEW_YEAR_2024
        with freezer.project(clock):
            assert [shown(), shown()] == [NEW_YEAR_2024] * 2
        assert shown() + timedelta(seconds=15) == shown()


# ---- time-machine ----------------------------------------------------------------------------


@pytest.mark.parametrize("tick", [True, False])
@pytest.mark.parametrize("held", [True, False])
def test_a_journey_of_the_user_is_adopted(any_freezer, tick, held):
    """Under `time_machine.travel` the clock starts there, leads, and follows shift and move_to."""
    if held:  # time-machine refuses to start under freezegun, but not under our base
        any_freezer.hold()
    with time_machine.travel(NEW_YEAR_2024, tick=tick) as traveller:
        start = any_freezer.foreign_now()
        assert NEW_YEAR_2024 <= start < NEW_YEAR_2024 + timedelta(seconds=5)
        clock = VirtualClock(NEW_YEAR_2024)
        with any_freezer.project(clock):
            assert shown() == NEW_YEAR_2024
            clock.move_to(NEW_YEAR_2024 + HOUR)
            assert shown() == any_freezer.foreign_now() == NEW_YEAR_2024 + HOUR
            traveller.shift(HOUR)
            assert clock.now() == shown() == NEW_YEAR_2024 + 2 * HOUR
            traveller.move_to(datetime(2024, 1, 2, tzinfo=UTC), tick=True)
            assert clock.now() == shown() == datetime(2024, 1, 2, tzinfo=UTC)
        assert timedelta(0) <= shown() - clock.now() < timedelta(seconds=5)
        assert (shown() == shown()) is not tick
        assert {"shift", "move_to"}.isdisjoint(vars(traveller))
    any_freezer.release()


def test_a_journey_may_end_before_the_projection(any_freezer):
    """A projection opened under `@time_machine.travel` and closed after it leaves nothing."""
    with ExitStack() as ends:
        with time_machine.travel(NEW_YEAR_2024, tick=False):
            clock = VirtualClock(NEW_YEAR_2024)
            ends.enter_context(any_freezer.project(clock))
        assert shown() > NEW_YEAR_2024 + timedelta(days=300)
        clock.move_to(clock.now() + HOUR)


def test_time_machine_refuses_to_start_inside_freezegun(freezer, clock):
    """Inside a projection by freezegun, time-machine says itself that the two do not mix."""
    with freezer.project(clock), pytest.raises(RuntimeError) as caught:
        time_machine.travel(NEW_YEAR_2024).start()
    assert str(caught.value) == "time-machine cannot start when freezegun is active."


def test_a_journey_begun_inside_may_outlive_the_projection(clock):
    """With the time-machine backend the user's travel may begin inside and end outside."""
    with Freezer("time-machine").project(clock):
        travel = time_machine.travel(NEW_YEAR_2024, tick=False)
        travel.start()
        assert shown() == NEW_YEAR_2024
    assert shown() == NEW_YEAR_2024
    travel.stop()


def test_a_time_machine_that_stops_stopwatches_is_refused(clock, monkeypatch):
    """Before version 3 time-machine stopped `monotonic` as well; the error names the cure."""
    monkeypatch.delattr(time_machine, "traveller_stack")
    with pytest.raises(FreezeError) as caught:
        Freezer("time-machine").project(clock).__enter__()
    assert str(caught.value) == (
        "This time-machine stops time.monotonic() too, and with it every real timeout: "
        "install time-machine 3 or newer, or let freezegun show the time."
    )


def test_time_machine_leaves_the_classes_alone(clock):
    """With the time-machine backend values are of the real classes."""
    with Freezer("time-machine").project(clock):
        assert type(shown()) is sys.modules["datetime"].datetime is REAL.datetime


# ---- pydantic --------------------------------------------------------------------------------


class Built(BaseModel):
    """Built before any freeze."""

    past: PastDatetime | None = None
    future: list[FutureDatetime] = []
    day: PastDate | None = None


class Outer(BaseModel):
    inner: Built


def models_built_now():
    class Inner(BaseModel):
        past: PastDatetime | None = None
        future: list[FutureDatetime] = []
        day: PastDate | None = None

    class Around(BaseModel):
        inner: Inner

    return Around


@pytest.mark.parametrize("held", [True, False])
@pytest.mark.parametrize("foreign", [True, False])
def test_pydantic_builds_what_mentions_datetime(freezer, clock, held, foreign):
    """Models and adapters over datetime and date are built under a projection and work after."""
    if held:
        freezer.hold()
    with ExitStack() as ends:
        if foreign:
            ends.enter_context(freeze_time(START))
        ends.enter_context(freezer.project(clock))
        dt = sys.modules["datetime"]

        class Order(BaseModel):
            at: dt.datetime
            day: dt.date
            made: dt.datetime = pydantic.Field(default_factory=lambda: dt.datetime.now(UTC))

        adapter = TypeAdapter(list[dt.datetime | dt.date])
        order = Order(at="2000-01-01T00:00:00Z", day="2000-01-01")
        assert order.made == order.at == START
        assert Order.model_validate_json(order.model_dump_json()) == order
        assert Order(at=dt.datetime.now(UTC), day=dt.date.today()).at == START
    freezer.release()
    assert adapter.validate_json('["2000-01-01T00:00:00Z"]') == [START]
    assert type(Order(at=START, day=date(2000, 1, 1)).at) is REAL.datetime
    assert adapter.json_schema()["items"]["anyOf"][0]["format"] == "date-time"


@pytest.mark.parametrize("build", [lambda: Outer, models_built_now])
def test_past_and_future_agree_with_virtual_time(freezer, clock, build):
    """Models built before and during a projection judge by virtual time, then by real time."""
    late = START + timedelta(days=10)
    before_late, after_late = {"past": late}, {"future": [late]}
    with freezer.project(clock):
        model = build()

        def errors(**fields):
            try:
                model(inner=fields)
            except ValidationError as error:
                return [e["type"] for e in error.errors()]
            return []

        assert errors(**after_late) == errors(past=START - HOUR, day="1999-12-31") == []
        assert errors(**before_late) == ["datetime_past"]
        assert errors(past="2000-01-02T00:00:00") == ["datetime_past"]
        assert errors(past=START) == ["datetime_past"]
        assert errors(day="2000-01-01") == ["date_past"]
        clock.move_to(late + HOUR)
        assert errors(**before_late) == errors(day="2000-01-10") == []
        assert errors(**after_late) == ["datetime_future"]
    assert errors(**before_late) == errors(day="2020-01-01") == []
    assert errors(past="2091-01-01T00:00:00Z", future=[late]) == [
        "datetime_past",
        "datetime_future",
    ]
    assert "past" in str(Outer.model_json_schema())


def test_models_are_given_their_own_validator_back(freezer, clock):
    """A model built before has its compiled validator again after the projection."""
    own = [Built.__pydantic_validator__, Outer.__pydantic_validator__]
    with freezer.project(clock):
        assert Built.__pydantic_validator__ is not own[0]
        assert Outer.__pydantic_complete__
    assert [Built.__pydantic_validator__, Outer.__pydantic_validator__] == own


def test_annotated_and_optional_judges_agree_too(freezer, clock):
    """`Annotated[datetime, PastDatetime]` under a union and a default is judged alike."""
    with freezer.project(clock):
        adapter = TypeAdapter(Annotated[datetime, PastDatetime()] | None)
        assert adapter.validate_python(None) is None
        assert adapter.validate_python(START - HOUR) == START - HOUR
        with pytest.raises(ValidationError) as caught:
            adapter.validate_python(START + HOUR)
    assert caught.value.errors()[0]["type"] == "datetime_past"


def test_pydantic_met_for_the_first_time_under_a_freeze():
    """A first `PastDatetime` inside a projection does not trip over freezegun's local time."""
    code = """
import datetime as dt, sys
from edda_testkit.clock import VirtualClock
from edda_testkit.freeze import Freezer
start, freezer = dt.datetime(2000, 1, 1, tzinfo=dt.UTC), Freezer()
freezer.hold()
with freezer.project(VirtualClock(start)):
    pass
import pydantic
adapter = pydantic.TypeAdapter(pydantic.PastDatetime)
with freezer.project(VirtualClock(start)):
    adapter.validate_python(start)
    model = pydantic.create_model("M", at=(pydantic.FutureDatetime, ...))
    model(at=start + dt.timedelta(days=1))
freezer.release()
"""
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})


def test_pydantic_loaded_only_in_part_is_not_spoilt():
    """What pydantic loads late, under a freeze of ours, knows the real classes afterwards."""
    code = """
import datetime as dt, pydantic, sys
from edda_testkit.clock import VirtualClock
from edda_testkit.freeze import Freezer
assert "pydantic._internal._generate_schema" not in sys.modules
with Freezer().project(VirtualClock(dt.datetime(2000, 1, 1, tzinfo=dt.UTC))):
    pydantic.TypeAdapter(list[dt.datetime])
pydantic.TypeAdapter(list[dt.datetime | dt.date])
"""
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})


def test_utc_stamps_agree(freezer, clock):
    """`calendar.timegm(time.gmtime())`, an old idiom, shows the clock too."""
    with freezer.project(clock):
        assert calendar.timegm(time.gmtime()) == START.timestamp()

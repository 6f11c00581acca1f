"""The simulation for `async def` tests: what moves the world is awaited, views are plain.

It is the same simulation, driven in the same synchronous way: nothing of it runs on the test's
event loop, so it works under any async plugin, or none.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from cloudevents.core.v1.event import CloudEvent

from edda.activity import Activity
from edda.app import EddaApp
from edda.workflow import Workflow
from edda_testkit.clock import VirtualClock
from edda_testkit.doors import RecordingSender, SimulatedStore
from edda_testkit.runs import Run
from edda_testkit.schedule import Schedule
from edda_testkit.simulation import Simulation
from edda_testkit.stubs import Call, Stub
from edda_testkit.workers import Worker

__all__ = ["AsyncSimulation"]

T = TypeVar("T")
P = ParamSpec("P")


class AsyncSimulation:
    """`Simulation` for `async def` tests; see there for every argument."""

    __test__ = False

    def __init__(self, simulation: Simulation | None = None, **options: Any) -> None:
        self.simulation = simulation or Simulation(**options)
        self.http = AsyncHttp(self.simulation)

    def __repr__(self) -> str:
        return f"<Async{repr(self.simulation)[1:]}"

    async def __aenter__(self) -> Self:
        self.simulation.__enter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.simulation.__exit__(kind, error, traceback)

    # ---- What moves the world --------------------------------------------------------------------

    async def start(self, workflow: Workflow[..., Any], /, *args: Any, **kwargs: Any) -> Run:
        """Start a workflow and let it go on as far as it can now."""
        return self.simulation.start(workflow, *args, **kwargs)

    async def run(self, until: Run | None = None) -> Run | None:
        """Skip from due instant to due instant until a run has finished, or all have."""
        return self.simulation.run(until)

    async def advance(self, duration: float | timedelta = 0, **units: float) -> None:
        """Move time on."""
        self.simulation.advance(duration, **units)

    async def advance_to(self, instant: datetime) -> None:
        """Move time on to an instant."""
        self.simulation.advance_to(instant)

    async def advance_to_next(self) -> datetime:
        """Move time on to the next due instant."""
        return self.simulation.advance_to_next()

    async def send(self, event: str | CloudEvent, data: Any = None, **options: Any) -> CloudEvent:
        """Send a CloudEvent into the simulation."""
        return self.simulation.send(event, data, **options)

    async def duplicate(self, event: CloudEvent, *, id: str | None = None) -> CloudEvent:
        """Deliver an event again."""
        return self.simulation.duplicate(event, id=id)

    async def publish(self, channel: str, data: Any = None, **options: Any) -> CloudEvent:
        """Publish a message to a channel."""
        return self.simulation.publish(channel, data, **options)

    async def send_to(self, run: Run, channel: str, data: Any = None, **options: Any) -> CloudEvent:
        """Send a message of a channel to one run alone."""
        return self.simulation.send_to(run, channel, data, **options)

    async def deploy(self, workflow: Workflow[..., Any]) -> None:
        """Put other code under a workflow's name."""
        self.simulation.deploy(workflow)

    async def call(self, function: Callable[[], object], **when: Any) -> None:
        """Call a plain function, now or at a virtual instant."""
        self.simulation.call(function, **when)

    async def cancel(self, run: Run) -> bool:
        """Ask for a run to be cancelled."""
        return self.simulation.cancel(run)

    async def crash(self) -> None:
        """Kill every worker and start a new one."""
        self.simulation.crash()

    async def expire_lease(self, run: Run) -> bool:
        """Let the lease of a run's turn lapse now."""
        return self.simulation.expire_lease(run)

    async def jump(self, duration: float | timedelta) -> None:
        """Let the clock jump forward, past what is due."""
        self.simulation.jump(duration)

    def concurrently(self) -> "Block":
        """Let what the block asks for happen when it ends, in any order (`with`, `async with`)."""
        return Block(self.simulation)

    def crash_at(self, id: str | None = None, when: str = "after_effect", **options: Any) -> None:
        """Kill the worker, once, when it gets there."""
        self.simulation.crash_at(id, when, **options)

    def add_worker(self, **options: Any) -> Worker:
        """One more worker beside the others."""
        return self.simulation.add_worker(**options)

    def world(self, make: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """An object of the outside world that belongs to this simulation alone."""
        return self.simulation.world(make, *args, **kwargs)

    # ---- Views, and what only prepares -----------------------------------------------------------

    @property
    def now(self) -> datetime:
        """The virtual instant."""
        return self.simulation.now

    @property
    def runs(self) -> list[Run]:
        """The runs started here."""
        return self.simulation.runs

    @property
    def app(self) -> EddaApp:
        """The app under test."""
        return self.simulation.app

    @property
    def store(self) -> SimulatedStore:
        """The store, which can be told to fail."""
        return self.simulation.store

    @property
    def clock(self) -> VirtualClock:
        """The virtual clock."""
        return self.simulation.clock

    @property
    def sender(self) -> RecordingSender:
        """What would have been posted to a broker."""
        return self.simulation.sender

    @property
    def schedule(self) -> Schedule:
        """What was chosen so far, as a schedule with a token."""
        return self.simulation.schedule

    @property
    def next_due(self) -> datetime | None:
        """The next instant at which something happens by itself."""
        return self.simulation.next_due

    def stub(self, activity: Activity[..., Any], **answer: Any) -> Stub:
        """Let an activity answer `returns=`, `raises=`, `side_effect=` or `sequence=[...]`."""
        return self.simulation.stub(activity, **answer)

    def golden(self, name: str, *, run: Run | None = None, **options: Any) -> None:
        """Compare a run's history with its golden file."""
        self.simulation.golden(name, run=run, **options)

    def calls(self, activity: Activity[..., Any] | None = None) -> list[Call]:
        """The attempts made so far."""
        return self.simulation.calls(activity)


class Block:
    """`concurrently()` of an asynchronous simulation: `with`, and `async with` just as well."""

    def __init__(self, simulation: Simulation) -> None:
        self._block = simulation.concurrently()

    def __enter__(self) -> None:
        self._block.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return self._block.__exit__(kind, error, traceback)

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(self, *raised: object) -> bool | None:
        return self._block.__exit__(*raised)  # type: ignore[arg-type]


class AsyncHttp:
    """`sim.http` of an asynchronous simulation."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation

    async def post(self, path: str, **options: Any) -> Any:
        """POST to the app; an `httpx.Response`."""
        return self._simulation.http.post(path, **options)

    async def get(self, path: str, **options: Any) -> Any:
        """GET from the app; an `httpx.Response`."""
        return self._simulation.http.get(path, **options)

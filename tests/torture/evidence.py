"""What a campaign leaves behind, for the checker: values only, no processes and no stores."""

from dataclasses import dataclass, field

__all__ = ["Evidence", "Promise", "Strike"]


@dataclass(frozen=True)
class Strike:
    """Something that was done to a process (None: to all of them). Times are `time.time()`."""

    kind: str  # kill, pause, cut, full, readonly
    pid: int | None
    at: float
    until: float


@dataclass
class Promise:
    """What the engine owes for one instance that it has accepted."""

    id: str
    workflow: str
    n: int
    told: dict = field(default_factory=dict)  # what its customer saw: times, answers


@dataclass
class Evidence:
    """All there is to judge a campaign by."""

    promises: list[Promise]
    instances: dict  # id -> Instance, at the end
    histories: dict  # id -> events, at the end
    snapshots: list  # (id, events) seen on the way
    outcomes: dict  # id -> result
    ledger: list[dict]
    booked: list[tuple[str, int]]
    strikes: list[Strike]
    lease_seconds: float
    clocks_seconds: float  # by which two readings of the time may seem to disagree
    news: list[int]  # published one after another
    jobs: list[int]
    left: list[str]  # ids of what the others did not end while one server was paused for good
    pending: int  # events that are still in the outbox
    surprises: list[str] = field(default_factory=list)  # answers that customers did not expect
    logs: str = ""

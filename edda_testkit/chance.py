"""What chance does to a simulation: which move comes next, and what is injected.

The driver asks here at each of its choice points; the schedule's source answers. Crashes strike
after a commit, after an effect, and wherever an activity awaits, if asked for also between two of
its effects: a crash before any of these leaves what the one after the last left. Where nothing has
changed since the last time, or nothing would be lost, none is offered.

It also keeps the ledger: how often each call was executed, and how often its effect was lost.
"""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from edda.errors import EddaError
from edda.events import Envelope
from edda.history import Answered, Attempted
from edda.ports import Commit, Committed
from edda.turn import Turn
from edda_testkit.clock import VirtualClock
from edda_testkit.doors import SimulatedStore, When, reaches_others
from edda_testkit.errors import Misuse
from edda_testkit.schedule import Source
from edda_testkit.workers import Crash, Crashed, Move, Worker

__all__ = ["AtCall", "Chance", "CrashPoint"]

CRASH_POINTS = ("before", "during", "after_effect", "after_commit")
# Moves of one instance that nobody else can tell the time of: no user code but the workflow's.
LOCAL = frozenset({"turn", "answer", "look"})
ANSWERS = (Answered, Attempted)

AtCall = tuple[str, str]  # the instance and the id of a call


@dataclass(slots=True)
class CrashPoint:
    """Where `crash_at` is to strike: at a call, by its id, or at the n-th commit from now."""

    when: str
    id: str | None = None
    run: str | None = None
    commit: int | None = None

    def __str__(self) -> str:
        where = f"{self.id!r}" if self.commit is None else f"commit={self.commit}"
        return f'crash_at({where}, "{self.when}")'


class Chance:
    """The choice points of one simulation."""

    def __init__(self, store: SimulatedStore, source: Source, clock: VirtualClock) -> None:
        options = source.options
        self.explores = source.explores
        self.executed: Counter[AtCall] = Counter()
        self.lost: Counter[AtCall] = Counter()
        self.armed: list[CrashPoint] = []
        self.struck = 0
        self.crashes: list[Crash] = []
        self.is_shared = False  # whether a call used the app: then every order can matter
        self.in_call = False
        self.is_early = False  # whether the last pick came before its time: nobody can tell
        self.story: list[tuple[datetime, str]] | None = None
        self._source = source
        self._clock = clock
        self._store = store
        self._crashes = options.crashes
        self._faults = options.faults
        self._duplicates = options.duplicates
        self._delays = options.delays
        self._reorders = options.reorder
        self._workers = options.workers
        self._uncommitted: dict[AtCall, tuple[Turn, AtCall]] = {}  # and its key in the ledger
        self._delivered: list[Envelope] = []
        self._redelivered = 0
        self._version = 0
        self._offered: tuple[int, datetime] | None = None
        self.stepping: Worker | None = None
        store.on_delivered = self._on_delivered
        store.on_commit = self._on_commit
        store.on_other = self._on_other
        store.judge_commit = self._judge

    # ---- Choices ---------------------------------------------------------------------------------

    def choose(
        self, among: int, kind: str, options: Sequence[Any] = (), first: Move | None = None
    ) -> int:
        """Draw from the source; 0 where nothing is explored. `first` is what 0 stands for."""
        if not self.explores:
            return 0
        taken = self._source.choose(among, kind, options)
        if taken and self.story is not None:
            number = len(self._source.trail) - 1
            default = BY_DEFAULT.get(kind, f"first: {first}")
            self._tell(f"◆ choice {number} ({kind}). By default {default}. Instead:")
        return taken

    def pick(
        self, moves: list[Move], batch: Sequence[Move], again: Callable[[Envelope], object]
    ) -> Move | None:
        """The next move, or None when there is none, or none is made."""
        if not self.explores:
            return moves[0] if moves else None
        if self._duplicates and self._delivered:
            which = self.choose(1 + len(self._delivered), "duplicate")
            if which:
                self._duplicates -= 1
                return self._redelivery(self._delivered[which - 1], again)
        if not self._reorders:
            moves = moves[:1]
        if not moves:
            return None
        first = moves[0].actor
        self.is_early = False
        if self._reorders and self._source.options.is_coarse and not batch:
            moves = _coarse(moves)
            self.is_early = moves[0].actor != first
        if len(moves) == 1:
            return moves[0]
        return moves[self.choose(len(moves), "order", [move.key for move in moves], moves[0])]

    @property
    def among_due(self) -> Callable[[int], int] | None:
        """Which of several that are due at one instant rings first; None for their order."""
        return self._tie if self.explores and self._reorders else None

    def _tie(self, among: int) -> int:
        return self.choose(among, "tie")

    def _redelivery(self, envelope: Envelope, again: Callable[[Envelope], object]) -> Move:
        if self._source.options.duplicate_ids == "fresh":
            self._redelivered += 1
            document = {**envelope.document, "id": f"{envelope.id}-again-{self._redelivered}"}
            text = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
            envelope = Envelope(
                envelope.type, envelope.source, document["id"], text, envelope.instance_id
            )

        def deliver() -> None:
            try:
                again(envelope)
            except EddaError:  # its sender is told, and nobody here waits for that
                self._version += 1

        return Move("duplicate", "", envelope.type, deliver)

    # ---- Crashes and faults ----------------------------------------------------------------------

    def at_call(self, when: str, worker: Worker, turn: Turn, id: str) -> bool:
        """A call has come to a point. Raises `Crashed`; True means that its lease is lost."""
        if self.armed:
            self._strike(when, worker, turn.instance_id, id)
        if when == "before" or not self.explores:
            return False
        if when == "after_effect":
            self._version += 1
        self._offer_crash(worker)
        if self._faults and self._workers > 1 and self.choose(2, "lease"):
            self._faults -= 1
            self._tell(f"✂ lease of {turn.instance_id} lost")
            return True
        return False

    def in_transaction(self, worker: Worker, turn: Turn, id: str) -> None:
        """A call has its effect, and its transaction is open. Raises `Crashed`."""
        if self.armed:
            self._strike("after_effect", worker, turn.instance_id, id)
        if self.explores:
            self._version += 1
            self._offer_crash(worker)

    @property
    def strikes_inside(self) -> bool:
        """Whether the schedule may still kill a worker between two effects of one call."""
        return self.explores and self._crashes > 0 and self._source.options.inside_activities

    def between(self, worker: Worker, place: str) -> None:
        """A call has had an effect, and is about to have another. Raises `Crashed`."""
        self._version += 1
        try:
            self._offer_crash(worker)
        except Crashed:
            self._tell(f"✂ before {place}, in the middle of the activity")
            raise

    @property
    def delays(self) -> bool:
        """Whether anything may still come late."""
        return self.explores and self._delays > 0

    def delay(self, what: str, among: int = 2) -> int:
        """Whether something comes late, and how: one of `among`, 0 for in time."""
        taken = self.choose(among, "delay") if self.delays else 0
        if taken:
            self._delays -= 1
            self._tell(f"⧗ {what} comes late")
        return taken

    def progressed(self) -> None:
        """Activities went on for a while."""
        self._version += 1

    def _offer_crash(self, worker: Worker | None) -> None:
        now = (self._version, self._clock.now())
        if not self._crashes or now == self._offered:
            return
        self._offered = now
        if self.choose(2, "crash"):
            self._crashes -= 1
            raise Crashed(worker)

    def _strike(self, when: str, worker: Worker | None, instance_id: str, id: str) -> None:
        for point in self.armed:
            if point.when == when and point.id == id and point.run in (None, instance_id):
                self.armed.remove(point)
                raise Crashed(worker)

    def _strike_commit(self, when: str) -> None:
        for point in self.armed:
            if point.commit is not None and point.when == when:
                point.commit -= 1
                if point.commit == 0:
                    self.armed.remove(point)
                    raise Crashed(self.stepping)

    def _judge(self, commit: Commit) -> When | None:
        if self.armed:
            self._strike_commit("before")
        if not self._faults or not self.explores or self.stepping is None:
            return None
        taken = self.choose(3, "fault")
        if taken:
            self._faults -= 1
            self._tell(f"✂ commit of {commit.lease.instance_id} fails {_FAULTS[taken]}")
        return _FAULTS[taken]

    def _on_commit(self, commit: Commit, committed: Committed) -> None:
        self._version += 1
        instance_id = commit.lease.instance_id
        for event in commit.events:
            if isinstance(event, ANSWERS):
                self._uncommitted.pop((instance_id, event.id), None)
                if self.armed and isinstance(event, Answered):
                    self._strike("after_commit", self.stepping, instance_id, event.id)
        if self.armed:
            self._strike_commit("after")
        if not self.explores or self.stepping is None:
            return
        if reaches_others(commit):
            self.is_shared = True
        if self._uncommitted or not committed.is_released:
            self._offer_crash(self.stepping)

    def arm(self, point: CrashPoint) -> None:
        """Let a crash strike there, once."""
        if point.when not in CRASH_POINTS and point.commit is None:
            raise Misuse(
                f"crash_at() strikes {', '.join(map(repr, CRASH_POINTS))} a call, "
                f"and got {point.when!r}."
            )
        self.armed.append(point)

    # ---- The ledger ------------------------------------------------------------------------------

    def began(self, turn: Turn, id: str) -> None:
        """A call is executed; its effect may be had from now on."""
        key = (turn.machine.scope, id)
        self.executed[key] += 1
        self._uncommitted[turn.instance_id, id] = (turn, key)

    def lose(self, turn: Turn) -> None:
        """A turn is gone, with what it had not committed."""
        for at, (one, key) in list(self._uncommitted.items()):
            if one is turn:
                del self._uncommitted[at]
                self.lost[key] += 1

    def crashed(self, worker: Worker | None) -> None:
        """A worker has died."""
        self.struck += 1
        number = None if worker is None else worker.number
        self.crashes.append(Crash(self._clock.now(), number, dict(self._store.log)))
        self._tell(f"✝ crash of {'every worker' if worker is None else f'worker {worker.number}'}")

    # ---- What the store tells --------------------------------------------------------------------

    def _on_delivered(self, envelope: Envelope) -> None:
        self._version += 1
        self._tell(f"✉ {envelope.type} accepted (id {envelope.id!r})")
        if self.in_call:
            self.is_shared = True
        if self._duplicates:
            self._delivered.append(envelope)

    def _on_other(self) -> None:
        if self.in_call:
            self.is_shared = True

    # ---- The story -------------------------------------------------------------------------------

    def note(self, move: Move) -> None:
        """A move is made."""
        if self.story is not None:
            self._tell(f"{GLYPHS.get(move.kind, '·')} {move}")

    def _tell(self, text: str) -> None:
        if self.story is not None:
            self.story.append((self._clock.now(), text))


_FAULTS: tuple[When | None, ...] = (None, "before", "after")
# What happens at a choice of this kind unless the schedule says otherwise.
BY_DEFAULT = {
    "tie": "what was set first comes first",
    "worker": "the first worker claims it",
    "crash": "nobody dies here",
    "duplicate": "nothing comes again here",
    "delay": "this is in time",
    "fault": "this commit succeeds",
    "lease": "this lease is kept",
}
GLYPHS = {
    "turn": "▷",
    "call": "○",
    "answer": "●",
    "look": "◌",
    "duplicate": "⇉",
    "outside": "⚑",
    "await": "◐",
}


def _coarse(moves: list[Move]) -> list[Move]:
    """Moves that nobody else can tell the time of come first: one order of them is enough.

    Those of an instance that has no others now. A call of another instance can neither see nor
    change what they do, as long as no call uses the app.
    """
    calling = {move.actor for move in moves if move.kind not in LOCAL}
    for move in moves:
        if move.actor not in calling:
            return [one for one in moves if one.actor == move.actor]
    return moves

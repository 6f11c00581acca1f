"""The guard: while workflow code runs, and only then, it sees every call and stops the bad ones.

A profile hook is installed when the machine runs the workflow, and taken away when it is done:
nobody's module is patched, and activities, stores and tests never meet it. Whoever profiled
before still does. What it finds is raised at the call, as a `BaseException`, and again when the
machine has run: code that swallows it hides nothing, and nothing of that run is committed.

Code that has run on the same events before is not watched again: in a replay, or under another
schedule, it does the same, unless it asks whether it is replaying.

Absent: the tables (`guard_rules`), whose frames are whose (`guard_frames`).
"""

import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from types import FrameType, TracebackType
from typing import Any

from edda import machine
from edda.determinism import CATEGORIES
from edda.history import Event, Input
from edda.workflow import Workflow
from edda_testkit.errors import ForgottenAwait, NondeterminismWarning, NondeterministicCall
from edda_testkit.guard_asks import are_suspect, sightings
from edda_testkit.guard_frames import Chain, chain_of, users_until
from edda_testkit.guard_rules import IN_SET_ORDER, NETWORK_LIBRARIES, Rule, Rules, rules
from edda_testkit.guard_stale import Read, is_allowed
from edda_testkit.places import is_library

__all__ = ["MODES", "Guard"]

MODES = ("strict", "warn", "off")

Hook = Callable[[FrameType, Any, Any], object]


class Guard:
    """One simulation's guard, in mode `strict`, `warn` or `off`."""

    def __init__(self, mode: str = "strict") -> None:
        if mode not in MODES:
            raise ValueError(f"guard must be one of {', '.join(MODES)}, and is {mode!r}.")
        self.mode = mode
        self.warned: set[str] = set()
        self.watched: set[int] = set()  # what histories, up to an input, code has run on

    def watch(self, workflow: Workflow[..., Any]) -> machine.Watch:
        """What watches a machine of this workflow (`Machine.watch`)."""
        return machine.unwatched if self.mode == "off" else Watch(self, workflow)


class Watch:
    """The guard over one machine."""

    def __init__(self, guard: Guard, workflow: Workflow[..., Any]) -> None:
        self.guard = guard
        self.workflow = workflow
        self.found: list[NondeterministicCall] = []
        self._trail = id(workflow)  # of the inputs so far
        self._steps: list[int] = []
        self._rules = rules()
        self._hook = self._make_hook()
        self._until: FrameType | None = None
        self._installed: Hook | None = None
        self._previous: Any = None

    def __call__(self, events: Sequence[Event]) -> AbstractContextManager[object]:
        """The guard while code runs on these events, or nothing when it has seen that."""
        self._steps = []
        for event in events:
            if isinstance(event, Input):
                self._trail = hash((self._trail, event))
                self._steps.append(self._trail)
        if self.guard.watched.issuperset(self._steps):
            return machine.unwatched(events)
        return self

    def __enter__(self) -> None:
        self._rules.refresh()
        self._until = sys._getframe(1)  # noqa: SLF001 - the machine's frame: workflow code begins
        previous: Any = sys.getprofile()
        self._previous = previous
        self._installed = self._hook
        if previous is not None:
            if not callable(previous):  # a profiler in C, which cannot be asked to go on
                self._installed = None
                return
            self._installed = in_turn(previous, self._hook)
        sys.setprofile(self._installed)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        __tracebackhide__ = True
        # Raising in it has taken the hook away; code may have put another in its place.
        if self._installed is not None and sys.getprofile() in (None, self._installed):
            sys.setprofile(self._previous)
        self._until = self._previous = self._installed = None
        found, self.found = self.found, []
        if not found:
            if error is None:
                self.guard.watched.update(self._steps)
            return
        if self.guard.mode == "strict":
            raise found[0].with_traceback(None) from None
        for each in found:
            warnings.warn_explicit(str(each), NondeterminismWarning, each.file, each.line)

    def _make_hook(self) -> Hook:
        builtin, method = self._rules.builtins.get, self._rules.methods.get
        code = self._rules.codes.get
        judge = self._judge

        # Called for everything that workflow code does: nothing here may be slow.
        def hook(frame: FrameType, event: str, arg: Any) -> None:
            if event == "c_call":
                rule = builtin(arg) or method(arg.__name__)
                if rule is not None:
                    judge(rule, frame, frame, arg)
            elif event == "call":
                rule = code(id(frame.f_code))
                if rule is not None:
                    judge(rule, frame.f_back, frame, None)

        return hook

    def _judge(self, rule: Rule, caller: FrameType | None, frame: FrameType, arg: Any) -> None:
        if rule.each_time:
            self._steps = []
        if caller is None or (rule.is_direct and is_library(caller.f_code.co_filename)):
            return
        if rule.check is not None:
            found = rule.check(frame, arg)
            if not found:
                return
            rule = found if isinstance(found, Rule) else rule
        if rule.is_ask and not any(map(are_suspect, users_until(caller, self._until))):
            return
        home = self.workflow.fn.__code__.co_filename
        chain = chain_of(caller, self._until, home, by_edda=rule.by_edda or rule.is_ask)
        if chain is None or (rule.is_direct and not chain.is_direct):
            return
        if rule.is_ask:
            self._look_around(caller, chain)
            return
        if rule.is_forgotten:
            name = frame.f_locals["coro"].__qualname__.rpartition(".")[2]
            self._tell_forgotten(name.lstrip("_"), chain)
            return
        category, call, cure = rule.category, rule.call, rule.cure
        if rule.by_edda:
            call, cure = str(frame.f_locals.get("call")), str(frame.f_locals.get("cure"))
        elif (library := chain.library_of(NETWORK_LIBRARIES)) is not None:
            category, call, cure = "network", f"{library} ({call})", CATEGORIES["network"]
        self._report(category, call, cure, chain)

    def _look_around(self, caller: FrameType, chain: Chain) -> None:
        """At an ask: what the code on the stack does that no call shows."""
        for seen in sightings(caller, chain.own):
            found: Rule | None = IN_SET_ORDER
            if seen.read is not None:
                found = rule_of_read(seen.read, self._rules)
                if found is None or is_allowed(seen.read, found.category, seen.frame):
                    continue
            elif seen.function is not None:
                found = self._rules.of_builtin(seen.function)
            if found is not None:
                at = chain.at(seen.frame, seen.line)
                self._report(found.category, found.call, found.cure, at)

    def _tell_forgotten(self, name: str, chain: Chain) -> None:
        cure = f"Write `await {name}(...)`, or hand it to asyncio.gather or a TaskGroup."
        # Raised when the machine has run: here it would be in a finalizer, which raises nothing.
        self._note("asyncio", f"{name}()", cure, chain, ForgottenAwait)

    def _report(self, category: str, call: str, cure: str, chain: Chain) -> None:
        error = self._note(category, call, cure, chain)
        if error is not None and self.guard.mode == "strict":
            raise error

    def _note(
        self,
        category: str,
        call: str,
        cure: str,
        chain: Chain,
        kind: type[NondeterministicCall] = NondeterministicCall,
    ) -> NondeterministicCall | None:
        if category in self.workflow.allow or category in chain.allowed():
            return None
        error = kind(
            self.workflow.name,
            category,
            call,
            cure,
            site=chain.site,
            chain=[*chain.lines(), call],
            file=chain.own[-1].f_code.co_filename,
            line=chain.line,
        )
        if self.guard.mode == "warn":
            if str(error) in self.guard.warned:
                return None
            self.guard.warned.add(str(error))
        self.found.append(error)
        return error


def rule_of_read(read: Read, known: Rules) -> Rule | None:
    """The rule of what a global was made from at import, or of an attribute of the process."""
    for made in filter(None, map(known.of, read.functions)):
        if made.category in {"clock", "random", "environment"}:
            call = f"for {read.name}, which {made.call} made at import (line {read.made}),"
            return replace(made, call=call)
    if read.is_environment:
        return Rule("environment", f"for {read.name}", CATEGORIES["environment"])
    return None


def in_turn(first: Hook, second: Hook) -> Hook:
    """Both hooks as one."""

    def hook(frame: FrameType, event: str, arg: Any) -> None:
        first(frame, event, arg)
        second(frame, event, arg)

    return hook

"""Which app a call means that does not say: `wf.start(...)`, `send_event(...)`.

`async with app` and `app.initialize()` set a context variable; where it is not set, the only
open app of the process is meant. None open, or several, is an error that says so. An app that was
never shut down, and whose event loop is closed, is never meant.
"""

from contextvars import ContextVar
from typing import Any, Protocol

from edda.errors import AmbiguousAppError, NoAppError

__all__ = ["Host", "current_host", "enter", "forget"]


class Host(Protocol):
    """What an app is to the code that authors import."""

    service_name: str

    @property
    def is_stranded(self) -> bool:
        """Whether its event loop is closed, so that nothing can come of a call."""

    async def start(
        self, workflow: Any, /, *args: Any, instance_id: str | None = None, **kwargs: Any
    ) -> str:
        """Accept a new instance and return its id."""

    async def send(self, envelope: Any, broker_url: str | None) -> None:
        """Accept a CloudEvent here, or post it to a broker."""


_current: ContextVar[Host | None] = ContextVar("edda_current_app", default=None)
_open: list[Host] = []


def enter(host: Host) -> None:
    """Make this the current app, here and where nothing else is said."""
    if host not in _open:
        _open.append(host)
    _current.set(host)


def forget(host: Host) -> None:
    """The app is closed: nothing goes to it any more."""
    if host in _open:
        _open.remove(host)
    if _current.get() is host:
        _current.set(None)


def current_host(call: str, cure: str) -> Host:
    """The app that `call` means. Raises `NoAppError` with `cure`, or `AmbiguousAppError`."""
    host, hosts = _current.get(), [one for one in _open if not one.is_stranded]
    if host is not None and host in hosts:
        return host
    if not hosts:
        raise NoAppError(call, cure)
    if len(hosts) > 1:
        raise AmbiguousAppError(call, [one.service_name for one in hosts])
    return hosts[0]

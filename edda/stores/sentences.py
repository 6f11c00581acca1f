"""What stores with connections say alike: that they are not open, or open on another event loop."""

from edda.errors import StoreError

__all__ = ["elsewhere", "not_open"]


def not_open(store: object) -> StoreError:
    """A store that has no connection."""
    return StoreError(f"{store!r} is not open. Call `await store.open()` first.")


def elsewhere(store: object) -> StoreError:
    """A store whose connection another event loop waits for: a call here could wait for ever."""
    return StoreError(
        f"{store!r} was opened on another event loop, and works on that one alone. Await the call "
        f"there, for example by asyncio.run_coroutine_threadsafe, or open an app here."
    )

"""Files that nobody may write, root neither: the file system's immutable flag (Linux, ext4, tmpfs).

Permissions do not bind root, as which tests in containers run; this flag does. To set it takes
root with CAP_LINUX_IMMUTABLE.
"""

import contextlib
import fcntl
import os
import struct

__all__ = ["can_be_read_only", "read_only", "set_read_only"]

GET_FLAGS, SET_FLAGS, IMMUTABLE = 0x80086601, 0x40086602, 0x10


def set_read_only(path, is_read_only):
    """Set the flag of a file or folder, or clear it. Raises `OSError` where there is none."""
    file = os.open(path, os.O_RDONLY)
    try:
        (flags,) = struct.unpack("i4x", fcntl.ioctl(file, GET_FLAGS, bytes(8)))
        flags = flags | IMMUTABLE if is_read_only else flags & ~IMMUTABLE
        fcntl.ioctl(file, SET_FLAGS, struct.pack("i4x", flags))
    finally:
        os.close(file)


@contextlib.contextmanager
def read_only(*paths):
    """Nobody may write these."""
    with contextlib.ExitStack() as undo:
        for path in paths:
            set_read_only(path, True)
            undo.callback(set_read_only, path, False)
        yield


def can_be_read_only(folder):
    """Whether this user can set the flag there."""
    probe = folder / "probe"
    probe.touch()
    try:
        with read_only(probe):
            return True
    except OSError:
        return False
    finally:
        probe.unlink()

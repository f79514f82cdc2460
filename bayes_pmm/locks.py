"""Locks on folders that one fit at a time may write into."""

import contextlib
import errno
import importlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from bayes_pmm.errors import InputError, not_written

fcntl: ModuleType | None
try:
    fcntl = importlib.import_module("fcntl")
except ImportError:  # not a POSIX system
    fcntl = None

__all__ = ["LOCK", "locked"]

LOCK = "run.lock"
"""File in a folder that is locked, and names the process, while a fit writes there."""

NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK)
"""What file systems answer that do not know locks."""


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep others out of a folder that exists: other processes, and other threads of this one.

    The system lets go of the lock when the process ends, however it ends (and those that it forked meanwhile, which
    have the open file too): a file that a killed process has left counts for nothing. Only where a file system knows
    no locks does the file itself count.

    Raises
    ------
    InputError
        If another is at work there, if a file of that name is of something else, or if it cannot be written.
    BayesPMMError
        If the disk is full.
    """
    path, file, taker = folder / LOCK, None, os.getpid()
    try:
        try:
            file = _taken(path)
            os.ftruncate(file, 0)
            os.lseek(file, 0, os.SEEK_SET)
            os.write(file, json.dumps(_me()).encode())
        except (BlockingIOError, FileExistsError) as error:
            hint = f" (if there is none, remove {path})" if isinstance(error, FileExistsError) else ""
            raise InputError(
                f"{folder}: another fit is using it ({_owner(path)}); wait for it or end it{hint}, or use another"
                " folder"
            ) from None
        except OSError as error:
            raise not_written(path, error) from error
        yield
    finally:
        if file is not None:
            if fcntl is None:
                os.close(file)  # what is open cannot be removed there
            # While it is locked: later it may be another's.
            with contextlib.suppress(OSError):
                if os.getpid() == taker:  # a forked child has no right to it
                    path.unlink(missing_ok=True)
            if fcntl is not None:
                os.close(file)


def _taken(path: Path) -> int:
    """Descriptor of the file, open and locked.

    Raises
    ------
    BlockingIOError
        If another has locked it.
    FileExistsError
        If it is there, and the file system cannot tell whether it is locked.
    InputError
        If it is there and no lock: it stays as it is.
    """
    for _ in range(10):
        try:
            file, new = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666), True
        except FileExistsError:
            try:
                file, new = os.open(path, os.O_RDWR), False
            except FileNotFoundError:
                continue  # the other ended and removed it
        try:
            if not new and not _is_ours(os.read(file, 1000)):
                raise InputError(
                    f"{path}: is no lock of a fit, and a fit needs this name; move it away, or use another folder"
                )
            if not _lock(file) and not new:
                raise FileExistsError
            if os.path.samestat(os.fstat(file), os.stat(path)):
                return file
        except FileNotFoundError:
            pass  # removed before it was locked here
        except BaseException:
            os.close(file)
            raise
        os.close(file)
    raise BlockingIOError


def _is_ours(content: bytes) -> bool:
    """Whether a lock's file has this content: who holds it, or nothing where a fit was killed before it said so."""
    try:
        return not content or json.loads(content).keys() == _me().keys()
    except (ValueError, AttributeError):
        return False


def _lock(file: int) -> bool:
    """Lock a file, or return False where there are no locks.

    Raises
    ------
    BlockingIOError
        If another has locked it.
    """
    if fcntl is None:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in NO_LOCKS:
            return False
        raise
    return True


def _me() -> dict:
    return {"pid": os.getpid(), "host": socket.gethostname()}


def _owner(path: Path) -> str:
    """The process that a lock names, in words."""
    try:
        owner = json.loads(path.read_text("utf-8"))
        return "in this process" if owner == _me() else f"process {int(owner['pid'])} on {owner['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "in another process"

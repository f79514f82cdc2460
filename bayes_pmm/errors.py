"""The package's exceptions."""

import errno
from pathlib import Path

__all__ = ["BayesPMMError", "InputError", "UnfinishedError", "disk_is_full", "not_written", "status_lines"]


class BayesPMMError(Exception):
    """Base class of every error that the package raises on purpose."""


class InputError(BayesPMMError, ValueError):
    """Bad input from the user.

    The message is one line that says what is wrong, where, and what to do. The command line prints it and
    ends with exit code 2.
    """


class UnfinishedError(BayesPMMError):
    """A run whose draws are made and kept, but not yet written as they should be."""


def disk_is_full(error: BaseException | None) -> bool:
    """Whether a full disk, or a full quota, is behind an error."""
    full = (errno.ENOSPC, errno.EDQUOT)
    while error is not None:
        # HDF5 tells the number only in its text, where closing the file fails.
        if getattr(error, "errno", None) in full or any(f"errno = {n}," in str(error) for n in full):
            return True
        error = error.__cause__ or error.__context__
    return False


def not_written(path: Path, error: Exception) -> BayesPMMError:
    """What to raise where a file could not be written: a full disk is no bad input."""
    if disk_is_full(error):
        return BayesPMMError(f"{path}: not written, because the disk is full; make room and try again")
    reason = " ".join(str(getattr(error, "strerror", None) or error).split())
    return InputError(f"{path}: cannot be written ({reason}); choose another place")


def status_lines(status: str, reasons: tuple[str, ...]) -> list[str]:
    """What stands above everything that comes from a fit which is not ok; nothing where it is."""
    return [] if status == "ok" else [f"STATUS: {status.upper()}: {'; '.join(reasons[:1])}"]

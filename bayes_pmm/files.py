"""Files that are made once, whole or not at all."""

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from bayes_pmm.errors import InputError, not_written

__all__ = ["new_file", "write_new"]

NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
"""What file systems say that have no hard links."""


@contextlib.contextmanager
def new_file(path: Path, *faults: type[Exception]) -> Iterator[Path]:
    """A place to write a file that does not exist yet; at the end it gets its name, or nothing stays behind.

    Parameters
    ----------
    path : Path
    *faults : type
        What else than OSError a failed write may raise.

    Raises
    ------
    InputError
        If it exists or cannot be written.
    BayesPMMError
        If the disk is full.
    """
    failures: tuple[type[Exception], ...] = (OSError, *faults)
    partial = path.with_name(f".{uuid.uuid4().hex[:12]}.partial")
    try:
        if os.path.lexists(path):
            raise FileExistsError
        yield partial
        try:
            # Unlike renaming, this refuses a file that another process has made in between.
            os.link(partial, path)
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            os.rename(partial, path)
    except FileExistsError:
        raise InputError(f"{path}: exists already; choose another name or move it away") from None
    except failures as error:
        raise not_written(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def write_new(path: Path, content: str | bytes) -> None:
    """Write a file that does not exist yet, whole or not at all; errors are those of :func:`new_file`."""
    with new_file(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)

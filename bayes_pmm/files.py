"""Files that are made once, whole or not at all."""

import os
from pathlib import Path

from bayes_pmm.errors import InputError, not_written

__all__ = ["write_new"]


def write_new(path: Path, content: str | bytes) -> None:
    """Write a file that does not exist yet, whole or not at all.

    Raises
    ------
    InputError
        If it exists or cannot be written.
    BayesPMMError
        If the disk is full.
    """
    if path.exists():
        raise InputError(f"{path}: exists already; choose another name or move it away")
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise not_written(path, error) from error

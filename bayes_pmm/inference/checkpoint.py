"""Saved states of chains: one file a chain with the one before it, replaced atomically, plain arrays only."""

import contextlib
import json
import os
import uuid
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

from bayes_pmm.errors import BayesPMMError, InputError
from bayes_pmm.locks import locked

__all__ = ["RUN", "ChainFile", "check_shapes", "claimed", "has_draws", "load_arrays", "save_arrays"]

RUN = "run.json"
"""File in a checkpoint folder that says of which run and of which versions its draws are."""


class ChainFile:
    """The state of one chain and its draws so far, in a folder.

    A file is written under another name and then renamed, so a kill leaves a whole one. The file before it is kept
    for the day when the disk damages the last.
    """

    def __init__(self, folder: Path, chain: int):
        self.path = Path(folder) / f"chain_{chain}.npz"
        self.before = self.path.with_suffix(".before.npz")

    def save(self, state: Any, at: int, records: list, seconds: float) -> None:
        """Save the state after ``at`` draws, the list of kept records and the seconds spent so far."""
        kept = [np.concatenate(parts) for parts in zip(*(jax.tree.leaves(r) for r in records), strict=True)]
        arrays = {f"kept_{i}": x for i, x in enumerate(kept)} | {"at": at, "seconds": seconds}
        save_arrays(self.path, state, arrays, before=self.before)

    def load(self, like: Any) -> tuple[Any, int, list, float] | None:
        """State, number of draws done, records and seconds spent, or None if there is no whole checkpoint.

        Parameters
        ----------
        like : pytree
            A state of the same structure: only arrays are stored.
        """
        for path in (self.path, self.before):
            found = load_arrays(path, like)
            if found is not None and {"at", "seconds"} <= found[1].keys():
                state, more = found
                kept = [more[f"kept_{i}"] for i in range(sum(k.startswith("kept_") for k in more))]
                return state, int(more["at"]), kept, float(more["seconds"])
        return None


def has_draws(folder: Path) -> bool:
    """Whether a folder has chains' files, in folders of its own too."""
    return any(Path(folder).rglob("chain_*.npz"))


@contextlib.contextmanager
def claimed(folder: Path, about: dict[str, str]) -> Iterator[None]:
    """Keep a folder to one run, and to one fit at a time: it says on the first use of which, and compares later.

    Parameters
    ----------
    folder : Path
    about : dict
        Fingerprints of everything that the draws depend on, by what they are of; the versions are added here.

    Raises
    ------
    InputError
        If it is no folder, has draws of another run, of other versions, or of a run that it does not name, or files of
        something else under the names that are needed here, or if another fit is at work in it.
    BayesPMMError
        If the disk is full or the folder cannot be written.

    Warns
    -----
    UserWarning
        If it does not say of which versions its draws are.
    """
    path = folder / RUN
    with _reported(path):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise InputError(
                f"{folder}: is no folder, because it or one above it is a file; give another folder for the checkpoint"
            ) from None
    with locked(folder):
        if has_draws(folder):
            _compare(path, about)
        else:
            # What another run left before it drew anything is of no use to anybody; what is of something else is.
            if path.exists() and not _names_a_run(path, about):
                raise InputError(
                    f"{path}: does not say of a run, and a checkpoint needs this name; move it away, or use another"
                    " folder"
                )
            partial = path.with_name(f".{uuid.uuid4().hex[:12]}.partial")
            with _reported(path):
                try:
                    partial.write_text(json.dumps(about | {"versions": _versions()}, indent=1), "utf-8")
                    os.replace(partial, path)
                finally:
                    with contextlib.suppress(OSError):
                        partial.unlink(missing_ok=True)
        yield


def _versions() -> dict[str, str]:
    """Versions and kind of device that the digits of a run depend on: it goes on bit for bit with the same only."""
    versions = {name: version(name) for name in ("bayes_pmm", "jax", "jaxlib", "numpyro")}
    return versions | {"device": jax.default_backend()}


def _names_a_run(path: Path, about: dict[str, str]) -> bool:
    """Whether a file has the fingerprints of some run."""
    try:
        return about.keys() <= json.loads(path.read_text("utf-8")).keys()
    except (OSError, ValueError, AttributeError):
        return False


def _compare(path: Path, about: dict[str, str]) -> None:
    """Make sure that the run of a folder that has draws is this one."""
    folder = path.parent
    try:
        before = dict(json.loads(path.read_text("utf-8")))
        noted = dict(before.get("versions", {}))
    except (OSError, ValueError, TypeError):
        raise InputError(
            f"{folder}: has checkpoints, but {RUN}, which says of which run, is damaged or missing (older versions"
            " wrote none); use another folder"
        ) from None
    apart = [
        f"{name} {noted[name]} (not {now})"
        for name, now in _versions().items()
        if noted.get(name, now) != now
    ]
    if other := [name for name, value in about.items() if before.get(name) != value]:
        also = f", drawn with {', '.join(apart)}" if apart else ""
        raise InputError(
            f"{folder}: has the checkpoints of a run with other {', '.join(other)}{also}; give the same, or use another"
            " folder"
        )
    if apart:
        raise InputError(
            f"{folder}: was drawn with {', '.join(apart)}, and a run goes on bit for bit with the same versions and"
            " kind of device only; go back to those, or use another folder"
        )
    if not noted:
        warnings.warn(
            f"{folder}: does not say with which versions it was drawn, as older ones of bayes_pmm did not; it goes on"
            " bit for bit only if they were those of now",
            stacklevel=2,
        )


def save_arrays(path: Path, tree: Any, more: dict | None = None, before: Path | None = None) -> None:
    """Write the leaves of a tree, and further named arrays, atomically.

    Parameters
    ----------
    path : Path
    tree : pytree
    more : dict of arrays, optional
    before : Path, optional
        What an existing file is renamed to, once the new one is whole.

    Raises
    ------
    BayesPMMError
        If the disk is full or the folder cannot be written; what was there before is kept.
    """
    arrays = {f"state_{i}": _plain(x) for i, x in enumerate(jax.tree.leaves(tree))} | (more or {})
    partial = path.with_suffix(".partial")
    with _reported(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(partial, "wb") as file:
                np.savez(file, **arrays)
                file.flush()
                os.fsync(file.fileno())
            if before is not None and path.exists():
                os.replace(path, before)
            os.replace(partial, path)
        except BaseException:
            # A full disk should not stay full of what nobody will read.
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            raise


def load_arrays(path: Path, like: Any) -> tuple[Any, dict] | None:
    """Return the tree and the further arrays written by :func:`save_arrays`, or None if missing or damaged.

    Raises
    ------
    BayesPMMError
        If the file is whole but its tree is not like this one.
    """
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, zlib.error, EOFError):
        return None
    leaves, structure = jax.tree.flatten(like)
    try:
        stored = [arrays.pop(f"state_{i}") for i in range(sum(name.startswith("state_") for name in arrays))]
    except KeyError:
        return None
    check_shapes(path, stored, [_plain(leaf).shape for leaf in leaves])
    state = jax.tree.unflatten(structure, [_like(x, leaf) for x, leaf in zip(stored, leaves, strict=True)])
    return state, arrays


def check_shapes(path: Path, stored: Sequence[np.ndarray], shapes: Sequence[tuple]) -> None:
    """Make sure that a file's arrays have the shapes that they have in this run.

    Raises
    ------
    InputError
        If they have not.
    """
    if [x.shape for x in stored] != [tuple(shape) for shape in shapes]:
        raise InputError(f"{path}: is a checkpoint of another model, method or version; use another folder")


@contextlib.contextmanager
def _reported(path: Path):
    try:
        yield
    except OSError as error:
        raise BayesPMMError(
            f"{path}: checkpoint not written ({error.strerror}); the run up to the one before is kept: mend that"
            " and resume"
        ) from error


def _plain(leaf: Any) -> np.ndarray:
    if jax.dtypes.issubdtype(getattr(leaf, "dtype", None), jax.dtypes.prng_key):
        return np.asarray(jax.random.key_data(leaf))
    return np.asarray(leaf)


def _like(stored: np.ndarray, leaf: Any) -> Any:
    if jax.dtypes.issubdtype(getattr(leaf, "dtype", None), jax.dtypes.prng_key):
        return jax.random.wrap_key_data(jax.numpy.asarray(stored), impl=jax.random.key_impl(leaf))
    return jax.numpy.asarray(stored, dtype=jax.numpy.asarray(leaf).dtype)

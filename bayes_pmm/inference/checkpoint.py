"""Saved states of chains: one file a chain, replaced atomically, plain arrays only."""

import os
import zipfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

from bayes_pmm.errors import BayesPMMError

__all__ = ["ChainFile"]


class ChainFile:
    """The state of one chain and its draws so far, in a folder.

    A file is written under another name and then renamed, so a kill leaves either the old one or the new one.
    """

    def __init__(self, folder: Path, chain: int):
        self.path = Path(folder) / f"chain_{chain}.npz"

    def save(self, state: Any, at: int, records: list, seconds: float) -> None:
        """Save the state after ``at`` draws, the list of kept records and the seconds spent so far."""
        leaves = [_plain(x) for x in jax.tree.leaves(state)]
        kept = [np.concatenate(parts) for parts in zip(*(jax.tree.leaves(r) for r in records), strict=True)]
        arrays = {f"state_{i}": x for i, x in enumerate(leaves)} | {
            f"kept_{i}": x for i, x in enumerate(kept)
        }
        partial = self.path.with_suffix(".partial")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(partial, "wb") as file:
                np.savez(file, at=at, seconds=seconds, **arrays)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, self.path)
        except OSError as error:
            raise BayesPMMError(
                f"{self.path}: checkpoint not written ({error.strerror}); mend that and resume"
            ) from error

    def load(self, like: Any) -> tuple[Any, int, list, float] | None:
        """State, number of draws done, records and seconds spent, or None if there is no whole checkpoint.

        Parameters
        ----------
        like : pytree
            A state of the same structure: only arrays are stored.
        """
        if not self.path.exists():
            return None
        try:
            with np.load(self.path, allow_pickle=False) as file:
                arrays = dict(file)
        except (OSError, ValueError, zipfile.BadZipFile, EOFError):
            return None
        leaves, structure = jax.tree.flatten(like)
        if not {"at", "seconds", *(f"state_{i}" for i in range(len(leaves)))} <= arrays.keys():
            return None
        stored = [arrays[f"state_{i}"] for i in range(len(leaves))]
        state = structure.unflatten([_like(x, leaf) for x, leaf in zip(stored, leaves, strict=True)])
        kept = [arrays[f"kept_{i}"] for i in range(sum(k.startswith("kept_") for k in arrays))]
        return state, int(arrays["at"]), kept, float(arrays["seconds"])


def _plain(leaf: Any) -> np.ndarray:
    if jax.dtypes.issubdtype(getattr(leaf, "dtype", None), jax.dtypes.prng_key):
        return np.asarray(jax.random.key_data(leaf))
    return np.asarray(leaf)


def _like(stored: np.ndarray, leaf: Any) -> Any:
    if jax.dtypes.issubdtype(getattr(leaf, "dtype", None), jax.dtypes.prng_key):
        return jax.random.wrap_key_data(stored)
    return jax.numpy.asarray(stored, dtype=jax.numpy.asarray(leaf).dtype)

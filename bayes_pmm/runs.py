"""A run's folder: made once, never overwritten, resumable until it is finished.

``options.json`` is there from the beginning, ``checkpoint/`` and ``run.lock`` while it runs; ``posterior.nc``,
``bands.csv``, ``bands.png``, ``report.html`` and last ``summary.json`` when it is done.
"""

import contextlib
import hashlib
import json
import re
import shutil
import warnings
from datetime import datetime
from pathlib import Path

import jax
import numpy as np

from bayes_pmm.bands import LEVELS, Bands
from bayes_pmm.data import Dataset
from bayes_pmm.defect_learning import learn_defect, with_defect
from bayes_pmm.errors import BayesPMMError, InputError, UnfinishedError, disk_is_full
from bayes_pmm.files import write_new
from bayes_pmm.fit import Fit, fit
from bayes_pmm.inference.checkpoint import RUN
from bayes_pmm.inference.protocol import Method
from bayes_pmm.locks import LOCK, locked
from bayes_pmm.plotting import plot_bands
from bayes_pmm.posterior import Posterior
from bayes_pmm.report import png_bytes, render_report, summary
from bayes_pmm.settings import stream

PREDICTION = "prediction controls"

__all__ = ["check_folder", "digests", "execute", "finished_summary", "read_about", "read_rest"]


def digests(data: Dataset, controls: np.ndarray | None) -> dict[str, str]:
    """Fingerprints of the data and of the prediction controls, as a run's options have them."""
    names = repr((data.control_names, data.output_names))
    at = np.zeros(0) if controls is None else controls
    parts = {"data": ((data.controls, data.values, data.errors), names), PREDICTION: ((at,), "")}
    found = {}
    for part, (arrays, text) in parts.items():
        h = hashlib.sha256(text.encode())
        for array in arrays:
            h.update(str(array.shape).encode())
            h.update(np.ascontiguousarray(array).tobytes())
        found[part] = h.hexdigest()
    return found


def finished_summary(folder: Path) -> dict | None:
    """Summary of a finished run, or None."""
    return _stored(folder / "summary.json")


def _stored(path: Path) -> dict | None:
    """What a run keeps beside its draws, or None if it is not there.

    Raises
    ------
    InputError
        If it cannot be read as what was written.
    """
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise InputError(f"{path}: is damaged; take it from a copy, or fit again into another folder")
    return found


def check_folder(folder: Path, options: dict, resume: bool | None) -> bool:
    """Whether the run is already finished; otherwise the folder may be made or taken up again.

    Parameters
    ----------
    folder : Path
    options : dict
        Everything that the result depends on, plain values only.
    resume : bool or None
        Whether an interrupted run may be taken up; None where the command cannot.

    Raises
    ------
    InputError
        If the folder exists and must not be touched.
    """
    if not folder.exists() and not folder.is_symlink():
        return False
    if not resume:
        raise InputError(
            f"{folder}: exists already; choose another name"
            + ("" if resume is None else ", or add --resume to go on with that run")
        )
    if not folder.is_dir():
        raise InputError(f"{folder}: is not a folder; choose another name")
    stored = folder / "options.json"
    if not stored.is_file():
        if any(path.name != LOCK for path in folder.iterdir()):
            raise InputError(f"{folder}: is not a run of this program; choose another name")
        return False
    try:
        before = json.loads(stored.read_text("utf-8"))["options"]
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{stored}: is damaged; choose another name for --out") from None
    if PREDICTION in options and PREDICTION not in before:
        raise InputError(
            f"{folder}: is a run of an older version, which cannot be gone on with; choose another name. bayes-pmm"
            " predict and report read it if it is finished"
        )
    for name, value in json.loads(json.dumps(options)).items():
        if before.get(name) != value:
            raise InputError(
                f"{folder}: was run with {_difference(name, before.get(name), value)}; give the same data and options,"
                " or another --out: a run cannot be changed or prolonged"
                + (
                    "; when it is finished, bayes-pmm predict gives bands elsewhere"
                    if name == PREDICTION
                    else ""
                )
            )
    return (folder / "summary.json").is_file()


def _difference(name: str, before: object, now: object) -> str:
    """What of an option is another: "draws=300, not draws=400"."""
    if name in ("data", PREDICTION) or before is None or now is None:
        return f"other {name}"
    # Settings are stored as `Method(name=value, ...)`.
    parts = [re.split(r"[(),]\s*", str(x)) for x in (before, now)]
    apart = [[x for x in mine if x and x not in other] for mine, other in (parts, parts[::-1])]
    if not all(apart):
        return f"other {name}"
    was, given = (", ".join(x if "=" in x else f"{name} {x}" for x in side) for side in apart)
    return f"{was}, not {given}"


def execute(
    posterior: Posterior,
    method: Method,
    seed: int,
    folder: Path,
    options: dict,
    controls: np.ndarray | None = None,
    rest: np.ndarray | None = None,
    exact: np.ndarray | None = None,
    defect: bool = False,
    levels: tuple[float, ...] = LEVELS,
    about: dict[str, str] | None = None,
) -> tuple[Fit, Bands | None]:
    """Run a fit in its folder and write everything that belongs there; ``summary.json`` last.

    With ``defect`` a defect is learned from refits without the outermost rows; these keep no checkpoints, so a run that
    is interrupted there makes them again. ``about`` says in words what the run is of, for its report: the file, the
    condition.

    Raises
    ------
    InputError
        If the folder cannot be made, or another process is at work in it.
    UnfinishedError
        If the results cannot be written; a resumed run then only writes them.
    BayesPMMError
        If the fit cannot be started.
    """
    new = not folder.exists()
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _not_made(folder, error) from None
        with locked(folder):
            return _execute(
                posterior, method, seed, folder, options, controls, rest, exact, defect, levels, about
            )
    finally:
        if new:
            # It stays unless it is empty, that is unless nothing was drawn.
            with contextlib.suppress(OSError):
                folder.rmdir()


def _execute(posterior, method, seed, folder, options, controls, rest, exact, defect, levels, about):
    stored, checkpoint = folder / "options.json", folder / "checkpoint"
    new = not stored.exists()
    try:
        if new:
            begun = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
            content = {
                "options": options,
                "rest": None if rest is None else rest.tolist(),
                "about": {**(about or {}), "begun": begun, "seed": str(seed)},
            }
            write_new(stored, json.dumps(content, indent=1))
        checkpoint.mkdir(exist_ok=True)
    except OSError as error:
        raise _not_made(folder, error) from None
    try:
        with _memory_errors():
            done = fit(posterior, method, key=seed, controls=controls, checkpoint=checkpoint)
    except (BayesPMMError, MemoryError):
        if new and {path.name for path in checkpoint.iterdir()} <= {RUN}:
            # Nothing was drawn: leave no empty run behind, and all that is not ours.
            for path in (checkpoint / RUN, stored):
                path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                checkpoint.rmdir()
        raise
    if defect:
        try:
            learned = learn_defect(posterior, method, key=stream(jax.random.key(seed), "defect"))
        except BayesPMMError as error:
            # The fit itself is whole, and is kept.
            warnings.warn(f"saved without a defect, which could not be learned: {error}", stacklevel=2)
        else:
            done = with_defect(done, learned)
    try:
        # What a run that was killed while writing had already written is the same and is made again.
        for name in ("posterior.nc", "bands.csv", "bands.png", "report.html"):
            (folder / name).unlink(missing_ok=True)
        # The draws first: whatever ends the rest, they can be loaded and predicted from.
        with _memory_errors():
            done.save(folder / "posterior.nc")
            bands = None if controls is None else done.predict(controls, levels=levels)
            shown = bands if bands is not None else done.predict(posterior.data.controls, levels=levels)
        if bands is not None:
            bands.to_csv(folder / "bands.csv")
        write_new(folder / "bands.png", png_bytes(plot_bands(done, shown, exact)))
        write_new(folder / "report.html", render_report(done, shown, exact, read_about(folder)))
        write_new(folder / "summary.json", json.dumps(summary(done, shown), indent=2) + "\n")
    except MemoryError as error:
        if not (folder / "posterior.nc").is_file():
            raise
        raise UnfinishedError(
            f"{folder}: out of memory, and not finished; its draws are whole: bayes-pmm predict {folder} gives bands"
            " at fewer controls at a time"
        ) from error
    except (BayesPMMError, OSError) as error:
        reason = f"{folder}: not finished, because the disk is full" if disk_is_full(error) else str(error)
        raise UnfinishedError(f"{reason}; mend that; the checkpoints are kept") from error
    shutil.rmtree(checkpoint)
    return done, bands


@contextlib.contextmanager
def _memory_errors():
    """What JAX raises where memory is short, as Python's own error."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" in str(error) or "Out of memory" in str(error):
            raise MemoryError(str(error)) from error
        raise


def _not_made(folder: Path, error: OSError) -> InputError:
    return InputError(f"{folder}: cannot be made ({error.strerror}); choose another place")


def _home(path: Path) -> Path:
    """The folder of a run that is given by it or by its file of draws."""
    return Path(path).parent if Path(path).is_file() else Path(path)


def read_about(folder: Path) -> dict[str, str]:
    """What a run is of, in words: file, condition, when it was begun, seed; empty where its folder does not say."""
    return (_stored(_home(folder) / "options.json") or {}).get("about", {})


def read_rest(folder: Path) -> np.ndarray | None:
    """Controls of the rows that ``--where`` left out of a run, or None."""
    rest = (_stored(_home(folder) / "options.json") or {}).get("rest")
    return None if rest is None else np.asarray(rest, float)

"""Extrapolation study: every method on every task, one line of JSON each.

    python -m studies.extrapolation.run --out results.jsonl                        # all tasks and methods
    python -m studies.extrapolation.run --out results.jsonl --tasks "ising/*" --methods gp_rbf pmm
    python -m studies.extrapolation.run --out results.jsonl --methods pmm --dim 7 --label pmm-7

Resumable: what has a line is skipped. A method that fails is recorded with its message; ``--retry`` runs it again.
"""

import argparse
import ast
import multiprocessing
import os
import sys
import threading
import time
import warnings
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from fnmatch import fnmatchcase
from itertools import groupby
from pathlib import Path
from zlib import crc32

import jax
import numpy as np

from bayes_pmm import problems
from studies.extrapolation import gap, lines, nonlinear
from studies.extrapolation.forecast import NotApplicableError
from studies.extrapolation.ours import SAMPLERS, Options, pmm
from studies.extrapolation.peers import PEERS

CACHE = Path(__file__).parents[2] / ".cache" / "jax"
SINGLE = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
    "JAX_COMPILATION_CACHE_DIR": str(CACHE),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
}


def all_tasks() -> tuple[str, ...]:
    """Nine Hamiltonians a family at 1 % noise, three at 1e-4 and without noise, and the misspecified tasks."""
    zoo = problems.tasks(("1e-2",), range(9)) + problems.tasks(("1e-4", "0"), range(3))
    return zoo + nonlinear.tasks()


def task_of(name: str):
    """Task by name, of the package or of this study."""
    if gap.MARK in name:
        return gap.task(name)
    return nonlinear.task(name) if name.split("/")[0] in nonlinear.FAMILIES else problems.task(name)


def cell(task, method: str, options: Options | None, keep: Path | None = None) -> dict:
    """Line of one method on one task; with options it is our own under the name `method`, whose draws may be kept."""
    rng = np.random.default_rng([crc32(task.name.encode()), crc32(method.encode())])
    row = {
        "task": task.name,
        "family": task.family,
        "hamiltonian": task.hamiltonian,
        "noise": task.noise,
        "exact_dim": task.exact_dim,
        "method": method,
        "ours": options is not None,
    }
    if options is not None:
        row["options"] = asdict(options)
    began, cpu = time.perf_counter(), time.process_time()
    try:
        forecast = PEERS[method](task, rng) if options is None else pmm(task, rng, options, keep)
        result = {"status": "done", "about": forecast.about} | lines.scored(task, forecast)
    except NotApplicableError as reason:
        result = {"status": "not applicable", "message": str(reason)}
    except Exception as error:  # one method's failure is a result of the study
        result = {"status": "failed", "message": f"{type(error).__name__}: {error}"[:500]}
    spent = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - cpu}
    return row | {k: round(v, 2) for k, v in spent.items()} | result


_lock = None


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def _begin(lock) -> None:
    global _lock
    _lock = lock
    # A killed runner must not leave workers that go on writing beside the next one.
    threading.Thread(target=_end_with_parent, daemon=True).start()
    jax.config.update("jax_enable_x64", True)
    warnings.simplefilter("ignore")


def _work(job) -> None:
    """All open cells of tasks of one family, whose shapes share compiled functions."""
    path, label, options, keep, open_cells = job
    for name, methods in open_cells:
        task = task_of(name)
        for method in methods:
            row = cell(task, method, options if method == label else None, keep)
            with _lock:
                lines.write(path, row)
                print(
                    name, method, row["status"], f"{row['cpu_seconds']} s", row.get("message", ""), flush=True
                )
    jax.clear_caches()


def _pairs(given: list[str]) -> dict:
    """Arguments from NAME=VALUE."""
    return {k: ast.literal_eval(v) for k, v in (pair.split("=", 1) for pair in given)}


def _share(text: str) -> tuple[int, int]:
    i, k = map(int, text.split("/"))
    if not 0 <= i < k:
        raise argparse.ArgumentTypeError(f"{text} is no share; the first of three is 0/3, the last 2/3")
    return i, k


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--out", type=Path, required=True)
    add(
        "--tasks",
        nargs="+",
        metavar="PATTERN",
        help="names or patterns, such as 'ising/*/1e-2/*'; default all",
    )
    add("--methods", nargs="+", metavar="NAME", help=f"of {', '.join(PEERS)} and the label; default all")
    add("--jobs", type=int, default=1, help="processes; a family's tasks of one noise stay in one")
    add("--share", type=_share, default=(0, 1), metavar="I/K", help="every K-th task from the I-th on, I < K")
    add("--retry", action="store_true", help="run again what failed")
    add("--list", action="store_true", help="print the names of the tasks and stop")
    add("--label", default="pmm", help="name of our own method in the lines")
    add("--dim", type=int)
    add("--sampler", choices=SAMPLERS, default="auto")
    for name in ("chains", "warmup", "draws"):
        add(f"--{name}", type=int)
    add("--prior", nargs="*", default=[], metavar="NAME=VALUE")
    add("--noise-model", nargs="*", default=[], metavar="NAME=VALUE")
    add("--defect", action="store_true", help="learn a defect from left-out rows and widen the bands by it")
    add(
        "--reference", type=float, help="c_ref as a share of the training range, for priors that depend on it"
    )
    add("--keep", type=Path, metavar="FOLDER", help="keep our method's draws there, for widening.py")
    add("--widening", type=float, default=Options().widening, help="rate of the bands' widening; 0 for none")
    add("--future", action="store_true", help="keep leave-future-out densities, for averages over dimensions")
    args = parser.parse_args(arguments)
    if args.label in PEERS:
        parser.error(f"--label {args.label} is a peer's name; use another")
    args.methods = args.methods or [*PEERS, args.label]
    unknown = [m for m in args.methods if m not in PEERS and m != args.label]
    if unknown:
        parser.error(f"no method is called {unknown[0]}; there are {', '.join([*PEERS, args.label])}")
    return args


def selected(args: argparse.Namespace) -> list[str]:
    """Names of the tasks that the command line asks for."""
    names = all_tasks()
    if args.tasks:
        # A name that is no pattern may stand for a task outside the study's own list.
        plain = [task_of(p).name for p in args.tasks if not any(c in p for c in "*?[")]
        found = [n for n in names if any(fnmatchcase(n, p) for p in args.tasks)]
        names = list(dict.fromkeys([*plain, *found]))
    i, k = args.share
    return list(names[i::k])


def main(arguments: list[str] | None = None) -> None:
    """Run what is not there yet."""
    args = parse(arguments)
    names = selected(args)
    if args.list:
        print("\n".join(names))
        return
    lengths = {k: getattr(args, k) for k in ("chains", "warmup", "draws") if getattr(args, k) is not None}
    options = Options(
        args.dim,
        args.sampler,
        lengths,
        _pairs(args.prior),
        _pairs(args.noise_model),
        args.defect,
        args.reference,
        args.widening,
        args.future,
    )
    have = lines.read(args.out)
    if args.label in args.methods and any(
        # What a line does not name did not exist when it was written.
        "options" in row and Options(**{"widening": 0.0} | row["options"]) != options
        for (_, m), row in have.items()
        if m == args.label
    ):
        sys.exit(f"{args.out}: {args.label} has lines with other options; give this method another --label")
    finished = {k for k, row in have.items() if not (args.retry and row["status"] == "failed")}
    jobs = []
    for _, group in groupby(names, key=lambda n: (n.split("/")[0], n.split("/")[2])):
        rest = [(n, [m for m in args.methods if (n, m) not in finished]) for n in group]
        if rest := [(n, methods) for n, methods in rest if methods]:
            jobs.append((args.out, args.label, options, args.keep, rest))
    print(
        f"{sum(len(m) for job in jobs for _, m in job[-1])} cells to run, {len(finished)} there", flush=True
    )
    for name, value in SINGLE.items():
        os.environ.setdefault(name, value)
    # Fresh processes: the settings above count from the start of one, and a forked JAX can hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(args.jobs, context, _begin, (context.Lock(),)) as pool:
        try:
            for job in as_completed([pool.submit(_work, job) for job in jobs]):
                job.result()
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            sys.exit("interrupted; the same command goes on where this one stopped")


if __name__ == "__main__":
    main()

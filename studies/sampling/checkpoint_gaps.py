"""How much sampling can a kill cost? The time from one checkpoint of a chain to its next, on hard cases.

    python studies/sampling/checkpoint_gaps.py [--seconds 75] [--cases n9 plane]

Each case is fitted in a process of its own with four chains and ``checkpoint``, and is killed some seconds after its
sampling began. Between two checkpoints is a chunk of draws: printed are its longest time in warm-up and in sampling
(saving included), its draws and their mean steps, and "at most": the seconds of a chunk of as many draws as the longest
that was seen, if every draw took the most steps that the method may take. Chains that wait for others at a meeting lose
nothing and do not count. Before the first chunk there is nothing to save: the search for starts, and compiling; a run
that is killed there makes them again, as one that is resumed always does.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from run import pencil, plane

import bayes_pmm as bp
from bayes_pmm.inference import chains, checkpoint
from bayes_pmm.inference.manifold import MOST_STEPS

WARMUP = 100
"""Shorter than a real one, so that sampling is reached; its windows still have chunks of up to 40 draws."""

MANIFOLD = bp.Manifold(warmup=WARMUP)
LONGER = bp.Manifold(warmup=WARMUP, thin=4)
NUTS = bp.NUTS(warmup=WARMUP)

CASES = {
    "n9": ("10 rows x 2 levels", lambda: pencil(9), 9, 1e-4, MANIFOLD),
    "n9 longer": ("10 rows x 2 levels", lambda: pencil(9), 9, 1e-4, LONGER),
    "n9 nuts": ("10 rows x 2 levels", lambda: pencil(9), 9, 1e-3, NUTS),
    "plane": ("12 rows x 3 levels", lambda: plane(8), 8, 1e-4, MANIFOLD),
    "plane nuts": ("12 rows x 3 levels", lambda: plane(8), 8, 1e-3, NUTS),
    "50": ("25 rows x 2 levels", lambda: pencil(9, points=25), 9, 1e-4, MANIFOLD),
    "150": ("75 rows x 2 levels", lambda: pencil(6, points=75), 6, 1e-4, MANIFOLD),
    "150 longer": ("75 rows x 2 levels", lambda: pencil(6, points=75), 6, 1e-4, LONGER),
    "150 n9": ("75 rows x 2 levels", lambda: pencil(9, points=75), 9, 1e-4, LONGER),
    "300": ("150 rows x 2 levels", lambda: pencil(6, points=150), 6, 1e-4, MANIFOLD),
    "300 longer": ("150 rows x 2 levels", lambda: pencil(6, points=150), 6, 1e-4, LONGER),
    "100 nuts": ("100 rows x 2 levels", lambda: pencil(9, points=100), 9, 1e-3, NUTS),
    "1000": ("1000 rows x 2 levels", lambda: pencil(4, points=1000), 4, 1e-2, NUTS),
}
"""Data in words, problem, n, noise, method."""


def say(**event):
    """One event as a line, whole also where threads write at the same time."""
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


class Timed:
    """A compiled chunk that notes when it was called."""

    def __init__(self, program, began):
        self.program, self.began = program, began

    def __call__(self, state, count, shared, arrays):
        self.began.at = time.perf_counter()
        state, kept = self.program(state, count, shared, arrays)
        self.began.count = int(count)
        self.began.steps = float(np.mean(np.asarray(kept[1]["n_steps"])[: int(count)]))
        return state, kept

    def as_text(self):
        return self.program.as_text()


def child(name):
    """One fit, whose events go to standard output."""
    jax.config.update("jax_enable_x64", True)
    began, compiled, save = threading.local(), chains.compiled, checkpoint.ChainFile.save

    def timed(*args):
        program, shapes = compiled(*args)
        return Timed(program, began), shapes

    def saved(file, state, at, records, seconds):
        save(file, state, at, records, seconds)
        took = time.perf_counter() - began.at
        say(kind="chunk", at=at, count=began.count, steps=began.steps, seconds=took)

    chains.compiled, checkpoint.ChainFile.save = timed, saved
    _, problem, n, noise, method = CASES[name]
    problem = problem()
    data = problem.dataset(noise=noise, seed=0)
    posterior = bp.Posterior(data, bp.PMM(tuple(problem.outputs.values()), dim=n))

    def progress(stage, done, total):
        if done == 0 or stage == "starts":
            say(kind=stage, done=done, total=total)

    with tempfile.TemporaryDirectory() as folder:
        bp.fit(posterior, method, key=0, progress=progress, checkpoint=folder)


def measured(name, seconds):
    """Seconds of starts and of compiling, and the chunks, of one case."""
    command = [sys.executable, __file__, "--child", name]
    marks, chunks, stop = {}, [], None
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            event, now = json.loads(line), time.perf_counter()
            if event["kind"] == "chunk":
                chunks.append(event)
            else:
                marks[event["kind"], event["done"]] = now
            if event["kind"] == "sampling" and stop is None:
                stop = threading.Timer(seconds, process.kill)
                stop.start()
        stop.cancel()
    starts = marks["starts", 1] - marks["starts", 0]
    return starts, marks["sampling", 0] - marks["starts", 1], chunks


def most_steps(method, stage):
    """The most steps of a draw."""
    once = 2**method.max_tree_depth - 1 if isinstance(method, bp.NUTS) else MOST_STEPS
    return once * (method.thin if stage == "sampling" else 1)


def main():
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=75.0)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--child", choices=CASES)
    args = parser.parse_args()
    if args.child is not None:
        child(args.child)
        return
    print(
        "| data | n | sampler | starts (s) | compiling (s) | stage | draws | steps | longest (s) | at most (s) |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
    for name in args.cases:
        words, _, n, _, method = CASES[name]
        starts, compiling, chunks = measured(name, args.seconds)
        sampler = type(method).__name__ + (f" thin {method.thin}" if getattr(method, "thin", 1) > 1 else "")
        for stage in ("warm-up", "sampling"):
            own = [c for c in chunks if (c["at"] <= method.warmup) == (stage == "warm-up")]
            head = f"| {words} | {n} | {sampler} | {starts:.1f} | {compiling:.1f} | {stage} |"
            if not own:
                print(head, "not reached | | | |", flush=True)
                continue
            longest = max(own, key=lambda c: c["seconds"])
            step = sum(c["seconds"] for c in own) / sum(c["count"] * c["steps"] for c in own)
            most = max(c["count"] for c in own) * most_steps(method, stage) * step
            print(
                f"{head} {longest['count']} | {longest['steps']:.0f} | {longest['seconds']:.1f} | {most:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()

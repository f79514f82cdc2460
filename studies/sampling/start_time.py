"""Seconds from a new process to its first draws, for a second fit of the same shape with other data.

    python studies/sampling/start_time.py CACHE_FOLDER [--dim 4] [--noise 1e-4]

Two processes one after the other, with other noise, share the compilation cache. Printed for each: seconds until the
package is imported, until the starting points are found, until sampling begins, and until the first chunk has been
drawn. A third process has no cache and fits twice; its second line counts from the beginning of the second fit.
"""

import argparse
import json
import subprocess
import sys
import time


def child(args):
    """One fit, or two; prints a JSON line for each."""
    began = time.perf_counter()
    import jax

    jax.config.update("jax_enable_x64", True)
    if not args.twice:
        jax.config.update("jax_compilation_cache_dir", args.cache)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    import bayes_pmm as bp

    marks = {"imported": time.perf_counter() - began}

    def progress(stage, done, total):
        if stage == "starts" and done == total:
            marks.setdefault("starts", time.perf_counter() - began)
        if stage == "sampling":
            marks.setdefault("sampling" if done == 0 else "first chunk", time.perf_counter() - began)

    problem = bp.problems.get("oscillator")
    for seed in (args.seed, args.seed + 1) if args.twice else (args.seed,):
        data = problem.dataset(noise=args.noise, seed=seed)
        posterior = bp.Posterior(data, bp.PMM(["E0", "E1"], dim=args.dim))
        bp.fit(posterior, bp.Manifold(warmup=100, draws=50), key=seed, progress=progress)
        print(json.dumps(marks | {"done": time.perf_counter() - began}))
        began, marks = time.perf_counter(), {}


def main():
    """Run three processes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cache")
    parser.add_argument("--dim", type=int, default=4)
    parser.add_argument("--noise", type=float, default=1e-4)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--twice", action="store_true", help="two fits without the cache")
    args = parser.parse_args()
    if args.seed is not None:
        child(args)
        return
    for given in (["1"], ["2"], ["3", "--twice"]):
        command = [sys.executable, __file__, args.cache, "--dim", str(args.dim), "--noise", str(args.noise)]
        print(subprocess.run([*command, "--seed", *given], check=True, capture_output=True, text=True).stdout)


if __name__ == "__main__":
    main()

"""Seconds from a new process to its first draws, for a second fit of the same shape with other data.

    python studies/sampling/start_time.py CACHE_FOLDER [--dim 4] [--noise 1e-4]

Two processes one after the other, with other noise, share the compilation cache. Printed for each: seconds until the
package is imported, until the starting points are found, until sampling begins, and until the first chunk has been
drawn.
"""

import argparse
import json
import subprocess
import sys
import time


def child(args):
    """One fit; prints a JSON line."""
    began = time.perf_counter()
    import jax

    jax.config.update("jax_enable_x64", True)
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
    data = problem.dataset(noise=args.noise, seed=args.seed)
    posterior = bp.Posterior(data, bp.PMM(["E0", "E1"], dim=args.dim))
    bp.fit(posterior, bp.Manifold(warmup=100, draws=50), key=args.seed, progress=progress)
    print(json.dumps(marks | {"done": time.perf_counter() - began}))


def main():
    """Run two processes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cache")
    parser.add_argument("--dim", type=int, default=4)
    parser.add_argument("--noise", type=float, default=1e-4)
    parser.add_argument("--seed", type=int)
    args = parser.parse_args()
    if args.seed is not None:
        child(args)
        return
    for seed in (1, 2):
        command = [sys.executable, __file__, args.cache, "--dim", str(args.dim), "--noise", str(args.noise)]
        print(
            subprocess.run([*command, "--seed", str(seed)], check=True, capture_output=True, text=True).stdout
        )


if __name__ == "__main__":
    main()

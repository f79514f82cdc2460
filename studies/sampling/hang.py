"""Do programs that split large arrays hang when as many of them run as there are cores?

    python studies/sampling/hang.py [--runs 5] [--seconds 15]

Two programs side by side on all cores, each in a process of its own that is stopped after a while; for small and large
arrays, and for one program at a time.
"""

import argparse
import os
import subprocess
import sys

CHILD = """
import sys
from concurrent.futures import ThreadPoolExecutor
import jax, jax.numpy as jnp, numpy as np
jax.config.update("jax_enable_x64", True)
from threadpoolctl import threadpool_limits
from bayes_pmm.inference.threads import SPLIT

batch, n, threads = map(int, sys.argv[1:])
x = np.random.default_rng(0).standard_normal((batch, n, n))
step = lambda i, x: x + 1e-9 * jnp.linalg.solve(x + 10 * jnp.eye(n), x)
program = jax.jit(lambda x: jax.lax.fori_loop(0, 100, step, x)).lower(x).compile()
print("split" if SPLIT in program.as_text() else "whole", flush=True)
with threadpool_limits(1), ThreadPoolExecutor(threads) as pool:
    list(pool.map(lambda i: np.asarray(program(x)), range(threads)))
print("done", flush=True)
"""


def main():
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=15.0)
    args = parser.parse_args()
    cores = os.cpu_count() or 1
    print("| matrices | n | programs side by side | arrays | hung |\n|---|---|---|---|---|")
    for batch, n, threads in ((20, 9, cores), (200, 20, cores), (200, 20, max(1, cores // 2))):
        hung, kind = 0, ""
        for _ in range(args.runs):
            command = [sys.executable, "-c", CHILD, str(batch), str(n), str(threads)]
            child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            try:
                out, _ = child.communicate(timeout=args.seconds)
            except subprocess.TimeoutExpired:
                child.kill()
                out, _ = child.communicate()
            kind = out.split()[0]
            hung += "done" not in out
        print(f"| {batch} | {n} | {threads} of {cores} cores | {kind} | {hung} of {args.runs} |", flush=True)


if __name__ == "__main__":
    main()

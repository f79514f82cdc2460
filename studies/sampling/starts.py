"""Seconds of the search for starting points, and the basins that it finds.

    python studies/sampling/starts.py [--cells ising/4/1e-2 ising/9/1e-2 plane/8/1e-4]

Each cell is searched twice; the second time, with another key, the compiled function comes from JAX's cache.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import jax

sys.path.insert(0, str(Path(__file__).parent))
from run import problem_of

import bayes_pmm as bp

jax.config.update("jax_enable_x64", True)


def main():
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", nargs="+", default=["ising/4/1e-2", "ising/9/1e-2", "plane/8/1e-4"])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        jax.config.update("jax_compilation_cache_dir", cache)
        table(args.cells)


def table(cells):
    """One line a cell."""
    print("| cell | first, s | second, s | second, CPU s | starts in each basin | misfit | log evidence |")
    print("|---|---|---|---|---|---|---|")
    for cell in cells:
        name, dim, noise = cell.split("/")
        problem = problem_of(name, int(dim))
        data = problem.dataset(noise=float(noise), seed=0)
        posterior = bp.Posterior(data, bp.PMM(tuple(problem.outputs.values()), dim=int(dim)))
        spent = []
        for seed in (0, 1):
            wall, cpu = time.perf_counter(), time.process_time()
            found = bp.AnnealedStarts().find(posterior, jax.random.key(seed), 4)
            spent.append((time.perf_counter() - wall, time.process_time() - cpu))
        basins = found.basins[:4]
        each = (
            ", ".join(format(getattr(b, k), f) for b in basins)
            for k, f in (("count", "d"), ("misfit", ".2f"), ("log_evidence", ".0f"))
        )
        columns = (cell, f"{spent[0][0]:.1f}", f"{spent[1][0]:.1f}", f"{spent[1][1]:.1f}", *each)
        print(f"| {' | '.join(columns)} |", flush=True)


if __name__ == "__main__":
    main()

"""Prior predictive check of the default prior on the zoo: do exact curves look like draws from the prior?

    python -m studies.extrapolation.prior_predictive [--hamiltonians 3] [--prior scale_median=2.0]

For each family: where the exact values stand among draws of the prior. ``variation`` is the standard deviation of an
output over the training controls, ``bend`` the root mean square of its departure from linear in the basis; both as the
share of prior draws below the exact value, averaged over outputs and Hamiltonians (0.5 in the ideal case, far from 0
and 1 in a usable one). ``inside`` and ``outside``: coverage of exact values by the prior's own 90 % band, and its width
in spreads.
"""

import argparse
import ast

import jax
import numpy as np

import bayes_pmm as bp
from bayes_pmm import problems
from bayes_pmm.basis import parse_basis

DRAWS = 400


def check(name: str, prior: bp.Prior, key: jax.Array) -> dict[str, float]:
    """Shares and widths of one task."""
    task = problems.task(name)
    pmm = bp.PMM(tuple(task.problem.outputs.values()), basis=parse_basis(task.basis))
    posterior = bp.Posterior(task.data, pmm, prior)
    controls = np.concatenate([task.data.controls, task.controls])
    sites = jax.jit(jax.vmap(posterior.prior_sites))(jax.random.split(key, DRAWS))
    draws = np.asarray(jax.jit(jax.vmap(lambda s: posterior.outputs(s, controls)))(sites))
    truth = task.problem.exact(controls)
    n = task.data.n_rows
    phi = np.asarray(posterior.scaling.coefficients(pmm.basis, task.data.controls))
    rest = np.eye(n) - phi @ np.linalg.pinv(phi)
    bend = lambda x: np.sqrt(np.mean((rest @ x) ** 2, axis=-2))
    low, high = np.quantile(draws, [0.05, 0.95], axis=0)
    hit, width = (low <= truth) & (truth <= high), (high - low) / task.spread
    return {
        "variation": float(np.mean(draws[:, :n].std(axis=1) < truth[:n].std(axis=0))),
        "bend": float(np.mean(bend(draws[:, :n]) < bend(truth[:n]))),
        "inside": float(hit[:n].mean()),
        "outside": float(hit[n:].mean()),
        "width inside": float(np.median(width[:n])),
        "width outside": float(np.median(width[n:])),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hamiltonians", type=int, default=3)
    parser.add_argument("--prior", nargs="*", default=[], metavar="NAME=VALUE")
    args = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    prior = bp.Prior(**{k: ast.literal_eval(v) for k, v in (pair.split("=", 1) for pair in args.prior)})
    print(f"{prior}\n")
    columns = None
    for family in problems.families():
        found = [
            check(f"{family}/{h}/1e-2", prior, jax.random.fold_in(jax.random.key(0), h))
            for h in range(args.hamiltonians)
        ]
        if columns is None:
            columns = list(found[0])
            print(f"| family | {' | '.join(columns)} |\n|{'---|' * (1 + len(columns))}")
        print(
            f"| {family} | {' | '.join(f'{np.mean([f[c] for f in found]):.2f}' for c in columns)} |",
            flush=True,
        )
        jax.clear_caches()


if __name__ == "__main__":
    main()

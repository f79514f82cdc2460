"""NUTS with polar coordinates for the coupling vector of the anchored level, against the package's coordinates.

    python studies/sampling/polar.py --out polar.jsonl
    python studies/sampling/polar.py --out polar.jsonl --table

The second derivative of a level fixes a sum of its squared couplings over their gaps, which in the package's
coordinates (couplings in units of the square root of the gap) is a radius. Here that radius is a site of its own and
the direction a normalised Gaussian vector, whose length stays free; the posterior of everything else is the same, and
so are the starts. Real matrices, two of them. Efficiency is the least (median) ESS of the outputs for each 1000
gradients, of four chains x 1000 draws after 1000 of warm-up.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro import handlers
from numpyro.infer.reparam import Reparam
from numpyro.infer.util import constrain_fn

sys.path.insert(0, str(Path(__file__).parent))
import resumable

import bayes_pmm as bp
from bayes_pmm.convergence import rhat_and_ess
from bayes_pmm.inference import NUTS
from bayes_pmm.inference.start import AnnealedStarts
from bayes_pmm.predict import outputs_at
from bayes_pmm.problems import get

jax.config.update("jax_enable_x64", True)

CELLS = (("oscillator", 1e-1), ("ising", 1e-1), ("random_weak", 1e-1))
DIM = 4
NEW = ("coupling_radius2", "coupling_raw", "coupling_rest")


class PolarReparam(Reparam):
    """``offdiagonal`` (1, m) as radius and direction of its first n - 1 elements, those of level 0, and the rest."""

    def __init__(self, n):
        self.n = n

    def __call__(self, name, fn, obs):  # noqa: ARG002
        sd = fn.base_dist.scale[0]
        k = self.n - 1
        radius2 = numpyro.sample(NEW[0], dist.Chi2(float(k)))
        raw = numpyro.sample(NEW[1], dist.Normal(jnp.zeros(k), 1.0).to_event(1))
        rest = numpyro.sample(NEW[2], dist.Normal(jnp.zeros(len(sd) - k), sd[k:]).to_event(1))
        first = sd[:k] * jnp.sqrt(radius2) * raw / jnp.linalg.norm(raw)
        return None, jnp.concatenate([first, rest])[None]


@dataclass(frozen=True, eq=False)
class PolarPosterior(bp.Posterior):
    """The same posterior in the other coordinates; ``constrain`` gives the package's sites."""

    def model(self, c, y=None, error=None):
        with handlers.reparam(config={"offdiagonal": PolarReparam(self.pmm.dim)}):
            return super().model(c, y, error)

    def unconstrain(self, sites):
        prior = self.matrix_prior
        units = prior.coupling_units(sites["gaps"]) / prior.unseen_factors
        sd = prior.sample_shrinkage(sites["scale"], sites["gaps"])[0] * sites["scale"][1] / units
        x, k = sites["offdiagonal"][0], self.pmm.dim - 1
        raw = x[:k] / sd[:k]
        more = dict(zip(NEW, (raw @ raw, raw, x[k:]), strict=True))
        return super().unconstrain({k: v for k, v in sites.items() if k != "offdiagonal"} | more)

    def constrain(self, z):
        found = constrain_fn(self.model, self._one_row, {}, z, return_deterministic=True)
        return {k: v for k, v in found.items() if k in {*z, "offdiagonal"} and k not in NEW}


def cell(problem, noise):
    """Both coordinates, from the same starts."""
    problem = get(problem)
    data, pmm = problem.dataset(noise=noise, seed=0), bp.PMM(list(problem.outputs.values()), dim=DIM)
    plain = bp.Posterior(data, pmm)
    starts = AnnealedStarts().find(plain, jax.random.key(1), 4)
    controls = np.concatenate([problem.train, problem.outside])
    row = {}
    for label, posterior in (("plain", plain), ("polar", PolarPosterior(data, pmm))):
        drawn = NUTS(warmup=1000, draws=1000, starts=starts).run(posterior, jax.random.key(0))
        outputs = outputs_at(plain, drawn, controls)
        rhat, ess = rhat_and_ess(outputs)
        row[label] = {
            "rhat": float(np.nanmax(rhat)),
            "ess_min": float(np.nanmin(ess)),
            "ess_median": float(np.nanmedian(ess)),
            "gradients": float(drawn.stats["n_steps"].sum()),
            "divergent": float(drawn.stats["diverging"].mean()),
            "mean": outputs.mean((0, 1))[-1].tolist(),
            "sd": outputs.std((0, 1))[-1].tolist(),
        }
    return row


def table(rows):
    """Markdown."""
    print(
        "| problem | noise | coordinates | R-hat | ESS min (median) | gradients a draw | divergent |"
        " ESS for each 1000 gradients |"
    )
    print("|" + "---|" * 8)
    for row in rows:
        for label in ("plain", "polar"):
            r = row[label]
            worth = [1000 * r[k] / r["gradients"] for k in ("ess_min", "ess_median")]
            print(
                f"| {row['problem']} | {row['noise']:g} | {label} | {r['rhat']:.3f} | {r['ess_min']:.0f}"
                f" ({r['ess_median']:.0f}) | {r['gradients'] / 4000:.0f} | {r['divergent']:.1%} |"
                f" {worth[0]:.2f} ({worth[1]:.2f}) |"
            )


def main(arguments=None):
    """Run or print."""
    resumable.main(__doc__, [{"problem": p, "noise": z} for p, z in CELLS], cell, table, arguments)


if __name__ == "__main__":
    main()

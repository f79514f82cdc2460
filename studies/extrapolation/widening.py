"""How much wider than the posterior should bands outside the data be, and what should that depend on?

    python -m studies.extrapolation.run --out lines.jsonl --methods pmm --keep DRAWS ...
    python -m studies.extrapolation.widening DRAWS

From kept draws, so no fit is repeated: y → ȳ + k (y − ȳ) for several k, with the distance d from the data and their
bend b. ``ECE`` is of central intervals from 10 to 90 %, ``CRPS`` the geometric mean over tasks relative to k = 1,
``low`` the number of families with a coverage below 0.70. In the last table the rate for a family is the one with the
least mean ECE on the tasks of all other families.
"""

import argparse
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np

from bayes_pmm import scores
from bayes_pmm.widening import Widening
from studies.extrapolation import nonlinear

ADDED = 1e-4
NOISES = ("1e-2", "1e-4", "0")
BENDS = (0.0, 0.03, 0.12, 0.2, np.inf)
DISTANCES = (0.0, 0.25, 0.5, 1.0, np.inf)
RATES = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4)
BENT = ((0.005, 0.5), (0.015, 0.5), (0.03, 0.5), (0.015, 1.0), (0.005, 5.0), (0.015, 5.0), (0.03, 5.0))

Form = Callable[[np.ndarray, float], np.ndarray]
"""From distances (K, Q) and the bend to factors (K, Q)."""


def form_of(widening: Widening) -> Form:
    """The package's own form, for levels and differences."""
    return lambda d, b: 1 + widening.slope(b) * np.sqrt(d)


FORMS: dict[str, Form] = {
    "1": lambda d, b: np.ones_like(d),  # noqa: ARG005
    **{f"1 + {r:g} √d": form_of(Widening(r)) for r in RATES[1:]},
    f"1 + {Widening().rate:g} d": lambda d, b: 1 + Widening().rate * d,  # noqa: ARG005
    "1.1": lambda d, b: np.full_like(d, 1.1),  # noqa: ARG005
    **{f"1 + {r:g}/b √d, at most {m:g}": form_of(Widening(r, m)) for r, m in BENT},
}


class Kept:
    """Draws of one task."""

    def __init__(self, path: Path):
        self.family, _, self.noise = path.stem.rsplit("_", 3)[:3]
        self._path = path

    @cached_property
    def stored(self) -> dict[str, np.ndarray]:
        """Arrays of the file."""
        with np.load(self._path) as stored:
            return dict(stored)

    def judged(self, form: Form) -> tuple[np.ndarray, np.ndarray, float]:
        """Distances and PIT values (K, Q), and the mean CRPS, with bands stretched by the form."""
        s = self.stored
        weights = s["weights"] / s["weights"].sum()
        k = form(s["distances"], float(s["bend"]))
        mean = np.tensordot(weights, s["model"], axes=1)
        draws = mean + k * (s["model"] - mean) + s["added"]
        w = None if np.ptp(weights) == 0 else weights
        crps = scores.crps(draws, s["truth"], fair=False, weights=w)
        return s["distances"], scores.pit(draws, s["truth"], weights=w), float(crps.mean())


def hit(pits: np.ndarray) -> np.ndarray:
    """Whether the value lies in the central 90 % interval."""
    return np.abs(2 * pits - 1) <= 0.9


def summary(judged: Sequence) -> tuple[float, float]:
    """Pooled coverage of the 90 % interval, and ECE."""
    pits = np.concatenate([p.ravel() for _, p, _ in judged])
    return float(hit(pits).mean()), float(scores.ece(pits))


def forms_table(by_noise: dict[str, list[Kept]], found: dict[str, dict[str, list]]) -> None:
    """Every form at every noise."""
    print("| k | " + " | ".join(f"noise {z}: coverage | ECE | CRPS | low" for z in by_noise) + " |")
    print("|---|" + "---|" * 4 * len(by_noise))
    for name, results in found.items():
        cells = []
        for z, judged in results.items():
            coverage, ece = summary(judged)
            pairs = zip(judged, found["1"][z], strict=True)
            ratio = np.exp(np.mean([np.log((a[2] + ADDED) / (b[2] + ADDED)) for a, b in pairs]))
            families: dict[str, list] = {}
            for task, (_, pits, _) in zip(by_noise[z], judged, strict=True):
                families.setdefault(task.family, []).append(hit(pits).mean())
            low = sum(np.mean(v) < 0.7 for v in families.values())
            cells.append(f"{coverage:.3f} | {ece:.3f} | {ratio:.3f} | {low}")
        print(f"| {name} | " + " | ".join(cells) + " |")


def split_table(title: str, edges, of: Callable, by_noise: dict, plain: dict, chosen: dict) -> None:
    """Coverage with k = 1 and with the package's k in classes of points, by a number that ``of`` gives each."""
    print(f"\n| {title} | " + " | ".join(f"noise {z}: k = 1 | widened" for z in by_noise) + " |")
    print("|---|" + "---|" * 2 * len(by_noise))
    for low, high in pairwise(edges):
        cells = []
        for z, tasks in by_noise.items():
            for results in (plain[z], chosen[z]):
                pairs = [(of(t, d), p) for t, (d, p, _) in zip(tasks, results, strict=True)]
                pits = np.concatenate([p[(x > low) & (x <= high)] for x, p in pairs])
                cells.append(f"{hit(pits).mean():.2f}" if pits.size else "")
        print(f"| {low:g} to {high:g} | " + " | ".join(cells) + " |")


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("draws", type=Path)
    parser.add_argument(
        "--hamiltonians", default="012", help="digits; 012 by default, on which the rate was chosen"
    )
    args = parser.parse_args()
    paths = [p for p in sorted(args.draws.glob("*.npz")) if p.stem.rsplit("_", 3)[1] in args.hamiltonians]
    tasks = [t for p in paths if (t := Kept(p)).family not in nonlinear.FAMILIES]
    by_noise = {z: ts for z in NOISES if (ts := [t for t in tasks if t.noise == z])}
    judge = lambda f: {z: [t.judged(f) for t in ts] for z, ts in by_noise.items()}
    found = {name: judge(form) for name, form in FORMS.items()}
    forms_table(by_noise, found)
    plain, chosen = found["1"], judge(form_of(Widening()))
    bend = lambda t, d: np.full_like(d, t.stored["bend"])
    split_table("bend", BENDS, bend, by_noise, plain, chosen)
    split_table("distance", DISTANCES, lambda t, d: d, by_noise, plain, chosen)  # noqa: ARG005
    by_rate = {r: judge(form_of(Widening(r))) for r in RATES}
    mean_ece = lambda left, r: np.mean(
        [
            summary([j for t, j in zip(ts, by_rate[r][z], strict=True) if t.family != left])[1]
            for z, ts in by_noise.items()
        ]
    )
    rates = {f: min(RATES, key=lambda r: mean_ece(f, r)) for f in sorted({t.family for t in tasks})}
    counts = ", ".join(f"{r:g} for {list(rates.values()).count(r)}" for r in sorted(set(rates.values())))
    print(f"\nRates chosen on all other families: {counts}.\n")
    print("| noise | coverage | ECE |\n|---|---|---|")
    for z, ts in by_noise.items():
        coverage, ece = summary([by_rate[rates[t.family]][z][i] for i, t in enumerate(ts)])
        print(f"| {z} | {coverage:.3f} | {ece:.3f} |")


if __name__ == "__main__":
    main()

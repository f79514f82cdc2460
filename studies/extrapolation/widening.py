"""How much wider than the posterior should bands outside the data be, and how does that depend on the distance?

    python -m studies.extrapolation.run --out lines.jsonl --methods pmm --keep DRAWS ...
    python -m studies.extrapolation.widening DRAWS

From kept draws, so no fit is repeated: y → ȳ + k(d) (y − ȳ) for several k, all tasks of three noises. ``ECE`` is of
central intervals from 10 to 90 %, ``CRPS`` the geometric mean over tasks relative to k = 1. In the last table the rate
for a family is the one with the least mean ECE on the tasks of all other families.
"""

import argparse
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np

from bayes_pmm import scores
from bayes_pmm.widening import Widening

ADDED = 1e-4
NOISES = ("1e-2", "1e-4", "0")
RATES = (0.0, 0.1, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.8)
EDGES = (0.0, 0.25, 0.5, 1.0, np.inf)

FORMS: dict[str, Callable] = {
    "1.2": lambda d: 1.2 + 0 * d,
    "1.3": lambda d: 1.3 + 0 * d,
    "1.4": lambda d: 1.4 + 0 * d,
    "1 + 0.3 d": lambda d: 1 + 0.3 * d,
    "1 + 0.5 d": lambda d: 1 + 0.5 * d,
}


class Kept:
    """Draws of one task."""

    def __init__(self, path: Path):
        self.name = path.stem
        self.family, _, self.noise = path.stem.rsplit("_", 3)[:3]
        with np.load(path) as stored:
            self.stored = dict(stored)

    def judged(self, form: Callable) -> tuple[np.ndarray, np.ndarray, float]:
        """Distances and PIT values (K, Q), and the mean CRPS, with bands stretched by form(d)."""
        s = self.stored
        mean = np.average(s["model"], axis=0, weights=s["weights"])
        k = np.broadcast_to(form(s["distances"]), mean.shape)
        draws = s["model"] + (k - 1) * (s["model"] - mean) + s["added"]
        weights = None if np.allclose(s["weights"], s["weights"][0]) else s["weights"]
        pit = scores.pit(draws, s["truth"], weights=weights)
        return s["distances"], pit, float(scores.crps(draws, s["truth"], fair=False, weights=weights).mean())


def summary(judged: list) -> tuple[float, float]:
    """Pooled coverage of the 90 % interval, and ECE."""
    pits = np.concatenate([p.ravel() for _, p, _ in judged])
    return float(np.mean(np.abs(2 * pits - 1) <= 0.9)), float(scores.ece(pits))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("draws", type=Path)
    tasks = [Kept(p) for p in sorted(parser.parse_args().draws.glob("*.npz"))]
    by_noise = {z: ts for z in NOISES if (ts := [t for t in tasks if t.noise == z])}
    root = lambda r: lambda d: 1 + r * np.sqrt(d)  # noqa: E731
    forms = {f"1 + {r:g} √d": root(r) for r in RATES} | FORMS
    found = {n: {z: [t.judged(f) for t in ts] for z, ts in by_noise.items()} for n, f in forms.items()}
    plain = found[f"1 + {0:g} √d"]
    print("| k(d) | " + " | ".join(f"noise {z}: coverage | ECE | CRPS" for z in by_noise) + " |")
    print("|---|" + "---|" * 3 * len(by_noise))
    for name, results in found.items():
        cells = []
        for z, judged in results.items():
            coverage, ece = summary(judged)
            ratio = np.exp(
                np.mean(
                    [np.log((a[2] + ADDED) / (b[2] + ADDED)) for a, b in zip(judged, plain[z], strict=True)]
                )
            )
            cells.append(f"{coverage:.3f} | {ece:.3f} | {ratio:.3f}")
        print(f"| {name} | " + " | ".join(cells) + " |")
    chosen = f"1 + {Widening().rate:g} √d"
    print("\n| distance | " + " | ".join(f"noise {z}: k = 1 | {chosen}" for z in by_noise) + " |")
    print("|---|" + "---|" * 2 * len(by_noise))
    for low, high in pairwise(EDGES):
        cells = []
        for z in by_noise:
            for results in (plain[z], found[chosen][z]):
                pits = np.concatenate([p[(d > low) & (d <= high)] for d, p, _ in results])
                cells.append(f"{np.mean(np.abs(2 * pits - 1) <= 0.9):.2f}")
        print(f"| {low:g} to {high:g} | " + " | ".join(cells) + " |")
    families = sorted({t.family for t in tasks})
    mean_ece = {}
    for left in families:
        for r in RATES:
            kept = found[f"1 + {r:g} √d"]
            mean_ece[left, r] = np.mean(
                [
                    summary([j for t, j in zip(by_noise[z], kept[z], strict=True) if t.family != left])[1]
                    for z in by_noise
                ]
            )
    rates = {f: min(RATES, key=lambda r, f=f: mean_ece[f, r]) for f in families}
    counts = ", ".join(f"{r:g} for {list(rates.values()).count(r)}" for r in sorted(set(rates.values())))
    print(f"\nRates chosen on all other families: {counts}.\n")
    print("| noise | coverage | ECE |\n|---|---|---|")
    for z, ts in by_noise.items():
        coverage, ece = summary([t.judged(root(rates[t.family])) for t in ts])
        print(f"| {z} | {coverage:.3f} | {ece:.3f} |")


if __name__ == "__main__":
    main()

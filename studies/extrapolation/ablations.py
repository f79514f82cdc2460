"""Comparisons behind the defaults, a page of Markdown, from the lines alone.

    python -m studies.extrapolation.ablations results.jsonl ablations.jsonl > docs/studies/extrapolation_ablations.md

Each table sets methods side by side on the tasks that all of them have.
"""

import argparse
from collections import Counter
from pathlib import Path

import numpy as np

from bayes_pmm.inference.modes import stacking_weights
from studies.extrapolation import lines
from studies.extrapolation.table import (
    calibration_error,
    coverage,
    geometric,
    group_of,
    hits,
    interval,
    low_families,
    mean_crps,
)

INTRODUCTION = """# Bands outside the data: how the defaults were chosen

What `python -m studies.extrapolation.ablations` prints: variants of our method beside each other on the tasks that
all of them have. {doc}`extrapolation_choices` says what follows. *Of all* and *seen* name the levels that place the
reference matrix (`Prior.centre`); *n + 3* is three more than the outputs need, the default dimension until growth,
centre and dimension were measured together. *n + 5* stands for the default dimension (7 for two levels and ten
points), with growth 0.15 and the centre on the levels in use unless something else is said. *Before* is what was the
default until dilations were part of the prior: growth 0.15 without them, and bands stretched by 1 + 0.015/b √d, at
most six times at the distance of one range (b the bend of the data): "widened by the bend".
An average has the mean of its members' predictive distributions; its CRPS is at most the mean of theirs."""
PREDICTED = {"bare": "before dilation", "unwidened": "default"}
SIX = ("oscillator/", "random_weak/", "pairing/", "hubbard/", "xxz/", "two_couplings/")


def common(found: dict, methods: list[str], keep=None) -> dict[str, list[dict]]:
    """Lines of each method on the tasks of the main group that all of them have."""
    done = {k: r for k, r in found.items() if r["status"] == "done" and group_of(r) == "main"}
    tasks = [t for t, m in done if m == methods[0] and all((t, k) in done for k in methods)]
    return {m: [done[t, m] for t in tasks if keep is None or keep(done[t, m])] for m in methods}


def table(title: str, found: dict, methods: dict[str, str], keep=None) -> list[str]:
    """Coverage, calibration and CRPS of methods (label to name) beside each other, the first as the unit."""
    sets = common(found, list(methods), keep)
    first = next(iter(sets.values()))
    if not first:
        return []
    text = [
        f"## {title}: {len(first)} tasks",
        "",
        "| method | coverage | ECE | CRPS / first | misses below the band | largest R-hat | CPU s (median) |",
        "|---|---|---|---|---|---|---|",
    ]
    for label, rows in sets.items():
        pit = np.concatenate([np.ravel(r["pit"]) for r in rows])
        missed = ~np.concatenate([np.ravel(hits(r)) for r in rows])
        below = f"{np.mean(pit[missed] < 0.5):.0%}" if missed.any() else ""
        cells = (
            methods[label],
            f"{coverage(rows)[0]:.2f}",
            f"{calibration_error(rows):.3f}",
            f"{geometric(list(zip(rows, first, strict=True)))[0]:.2f}",
            below,
            f"{max(r['about']['rhat'] for r in rows):.2f}",
            f"{np.median([r['cpu_seconds'] for r in rows]):.0f}",
        )
        text.append(f"| {' | '.join(cells)} |")
    return [*text, ""]


def each(title: str, found: dict, methods: dict[str, str], keep=None) -> list[str]:
    """Coverage / CRPS of every task."""
    sets = common(found, list(methods), keep)
    names = list(methods.values())
    if not sets[next(iter(methods))]:
        return []
    text = [f"## {title}", "", f"| task | {' | '.join(names)} |", "|---|" + "---|" * len(names)]
    for rows in zip(*sets.values(), strict=True):
        cells = " | ".join(f"{hits(r).mean():.2f} / {mean_crps(r):.3g}" for r in rows)
        text.append(f"| {rows[0]['task'].rsplit('/', 1)[0]} | {cells} |")
    return [*text, ""]


def average(title: str, found: dict, methods: dict[str, str], keep=None) -> list[str]:
    """Methods, and their predictions pooled with equal weights: its PIT are the means of theirs, its CRPS at most."""
    sets = common(found, list(methods), keep)
    rows = list(sets.values())
    if not rows[0]:
        return []
    mixture = [pooled(g, None) for g in zip(*rows, strict=True)]
    text = [
        f"## {title}: {len(mixture)} tasks",
        "",
        "| method | coverage | ECE | CRPS / first, at most | families below 0.70 |",
        "|---|---|---|---|---|",
    ]
    for name, chosen in zip([*methods.values(), "average"], [*rows, mixture], strict=True):
        cells = (
            name,
            interval(coverage(chosen)),
            f"{calibration_error(chosen):.3f}",
            f"{geometric(list(zip(chosen, rows[0], strict=True)))[0]:.2f}",
            low_families(chosen),
        )
        text.append(f"| {' | '.join(cells)} |")
    return [*text, ""]


def pooled(members: list[dict], weights) -> dict:
    """Line of a mixture: its PIT is the mean of the members', its CRPS at most the mean of theirs."""
    mean = lambda name: np.average([r[name] for r in members], axis=0, weights=weights)
    return members[0] | {name: mean(name) for name in ("pit", "crps")}


def by_future(title: str, found: dict, methods: dict[str, str], first: str) -> list[str]:
    """Dimensions, the best of them by leave-future-out, and their average with stacking weights by its densities."""
    sets = common(found, list(methods))
    if not sets[first]:
        return []
    groups = list(zip(*sets.values(), strict=True))
    future = [np.stack([r["about"]["future"] for r in g], axis=1) for g in groups]
    stacked = [stacking_weights(f) for f in future]
    mixed = {
        "the one with the best sum": [g[int(f.sum(0).argmax())] for g, f in zip(groups, future, strict=True)],
        "average by stacking": [pooled(g, w) for g, w in zip(groups, stacked, strict=True)],
        "average, equal weights": [pooled(g, None) for g in groups],
    }
    text = [
        f"## {title}: {len(groups)} tasks",
        "",
        "| method | mean weight | coverage | ECE | CRPS / before, at most |",
        "|---|---|---|---|---|",
    ]
    shares = [f"{w:.2f}" for w in np.mean(stacked, axis=0)]
    rows = zip(
        [*methods.values(), *mixed],
        [*shares, *[""] * len(mixed)],
        [*sets.values(), *mixed.values()],
        strict=True,
    )
    for name, share, chosen in rows:
        ratio = geometric(list(zip(chosen, sets[first], strict=True)))[0]
        text.append(
            f"| {name} | {share} | {coverage(chosen)[0]:.2f} | {calibration_error(chosen):.3f} | {ratio:.2f} |"
        )
    return [*text, ""]


def auc(score: np.ndarray, missed: np.ndarray) -> float:
    """Area under the ROC curve of a score for misses."""
    rank = np.argsort(np.argsort(score, kind="stable"), kind="stable")
    return float((rank[missed].mean() - (missed.sum() - 1) / 2) / np.sum(~missed))


def predictors(found: dict, method: str) -> list[str]:
    """What tells misses from hits, before bands are widened: a column for each noise."""
    rows = [
        r for r in found.values() if r["method"] == method and r["status"] == "done" and group_of(r) == "main"
    ]
    each = {
        "distance": lambda r: np.asarray(r["distance"])[:, None],
        "width of the band": lambda r: np.asarray(r["sd"]),
        "largest bend of any output, falling": lambda r: -max(r["about"]["bend"]),
        "least bend of any output, falling": lambda r: -min(r["about"]["bend"]),
        "sensitivity to the prior": lambda r: np.asarray(r["strengths"]["prior"]),
        "split R-hat": lambda r: np.asarray(r["strengths"]["chains"]),
    }
    noises = sorted({r["noise"] for r in rows}, reverse=True)
    pool = lambda f, z: np.concatenate(
        [np.ravel(np.broadcast_to(f(r), np.shape(r["pit"]))) for r in rows if r["noise"] == z]
    )
    missed = {z: ~pool(hits, z) for z in noises}
    text = [
        f"## Predictors of a miss of the posterior's own band, {PREDICTED[method]}",
        "",
        "Areas under the ROC curve; 0.5 tells nothing.",
        "",
        "| | " + " | ".join(f"noise {z:g}" for z in noises) + " |",
        "|---|" + "---|" * len(noises),
    ]
    for name, f in each.items():
        text.append(f"| {name} | " + " | ".join(f"{auc(pool(f, z), missed[z]):.2f}" for z in noises) + " |")
    return [*text, ""]


def lengths(found: dict) -> list[str]:
    """Short chains of the study beside the default's sampler and lengths: the same bands, and which status?"""
    words = {"pmm": "as in the study", "full": "default sampler and lengths"}
    both = {k: r for k, r in found.items() if r["status"] == "done" and r["method"] in words}
    pairs = [(both[t, "pmm"], r) for (t, m), r in both.items() if m == "full" and (t, "pmm") in both]
    pairs = [(short, full) for short, full in pairs if group_of(full) != "misspecified"]
    if not pairs:
        return []
    text = [
        f"## Lengths of chains, noise 0.01: {len(pairs)} tasks",
        "",
        "| chains | coverage | ECE | CRPS / first | misses | `ok`, `suspect`, `failed` | largest R-hat |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, rows in zip(words.values(), zip(*pairs, strict=True), strict=True):
        first = [a for a, _ in pairs]
        count = Counter(r["about"]["status"] for r in rows)
        cells = (
            name,
            interval(coverage(rows)),
            f"{calibration_error(rows):.3f}",
            interval(geometric(list(zip(rows, first, strict=True)))) if rows[0] is not first[0] else "1.00",
            f"{sum(np.sum(~hits(r)) for r in rows)}",
            ", ".join(str(count[s]) for s in ("ok", "suspect", "failed")),
            f"{max(r['about']['rhat'] for r in rows):.3f}",
        )
        text.append(f"| {' | '.join(cells)} |")
    text += [
        "",
        "| task | coverage, CRPS as in the study | by default | status | R-hat | ESS | sampler | CPU s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for short, full in pairs:
        about = full["about"]
        cells = (
            full["task"],
            *(f"{hits(r).mean():.2f}, {mean_crps(r):.3g}" for r in (short, full)),
            about["status"],
            f"{about['rhat']:.3f}",
            f"{about['ess']:.0f}",
            about["sampler"],
            f"{full['cpu_seconds']:.0f}",
        )
        text.append(f"| {' | '.join(cells)} |")
    return [*text, ""]


def convergence(title: str, found: dict, methods: dict[str, str]) -> list[str]:
    """Do chains agree? Methods (label to name) on the tasks of each group that all of them have, and every task."""
    done = {k: r for k, r in found.items() if r["status"] == "done"}
    tasks = [t for t, m in done if m == next(iter(methods)) and all((t, k) in done for k in methods)]
    if not tasks:
        return []
    text = [
        f"## {title}",
        "",
        "| group | method | tasks | `failed` | median R-hat | median ESS | coverage |",
        "|---|---|---|---|---|---|---|",
    ]
    for group in dict.fromkeys(group_of(done[t, next(iter(methods))]) for t in tasks):
        for label, name in methods.items():
            rows = [done[t, label] for t in tasks if group_of(done[t, label]) == group]
            about = [r["about"] for r in rows]
            cells = (
                group,
                name,
                len(rows),
                sum(a["status"] == "failed" for a in about),
                f"{np.median([a['rhat'] for a in about]):.3f}",
                f"{np.median([a['ess'] for a in about]):.0f}",
                f"{coverage(rows)[0]:.2f}",
            )
            text.append(f"| {' | '.join(map(str, cells))} |")
    text += ["", f"| task | {' | '.join(f'{n}: status, R-hat, coverage' for n in methods.values())} |"]
    text.append("|---|" + "---|" * len(methods))
    for t in tasks:
        rows = [done[t, k] for k in methods]
        cells = (f"{r['about']['status']}, {r['about']['rhat']:.3f}, {hits(r).mean():.2f}" for r in rows)
        text.append(f"| {t} | {' | '.join(cells)} |")
    return [*text, ""]


def misspecified(found: dict, method: str) -> list[str]:
    """Nonlinear eigenvalue problems with the package's own sampler and lengths: is the status the model's?"""
    rows = [r for r in found.values() if r["method"] == method and group_of(r) == "misspecified"]
    rows.sort(key=lambda r: r["task"])
    if not rows:
        return []
    prior = {"auto": ", before dilation", "full": ""}[method]
    text = [
        f"## Nonlinear eigenvalue problems with the default sampler and lengths{prior}",
        "",
        "| task | status | R-hat | ESS | the model does not follow the data | coverage | points doubted |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        about = r["about"]
        misfit = any("do not follow" in reason or "does not follow" in reason for reason in about["reasons"])
        cells = (
            r["task"],
            about["status"],
            f"{about['rhat']:.3f}",
            f"{about['ess']:.0f}",
            "said" if misfit else "",
            f"{hits(r).mean():.2f}",
            f"{np.mean(r['flags']):.0%}",
        )
        text.append(f"| {' | '.join(cells)} |")
    return [*text, ""]


def report(found: dict) -> list[str]:
    """All tables."""
    text = [INTRODUCTION, ""]
    at = lambda noise: lambda r: r["noise"] == noise
    default = {"before": "before", "unwidened": "default, not widened", "pmm": "default"}
    for noise in (1e-2, 1e-4, 0.0):
        text += table(f"Dilation and the widening with it, noise {noise:g}", found, default, at(noise))
    text += each("Dilation and the widening with it, every task", found, default)
    for noise in (1e-2, 1e-4, 0.0):
        both = {"bare": "posterior", "before": "widened by the bend"}
        text += table(f"Widening before dilation, noise {noise:g}", found, both, at(noise))
    for noise in (1e-2, 1e-4, 0.0):
        both = {"seen-0.15": "floors from 0, unit of lines of then", "bare": "floors from rounding"}
        title = f"Floors that begin at rounding, and the unit of lines, noise {noise:g}"
        text += table(title, found, both, at(noise))
    least = {"floors-1e-11": "1e-11 of the unit", "pmm": "1e-9 (default)"}
    text += convergence("Where learned floors begin, noise 0, floors that had been below 1e-7", found, least)
    former = {"plain-3": "plain ensemble, n + 3", "grown-3": "growth 0.5, n + 3", "seen-0.15": "n + 5"}
    for noise in (1e-2, 1e-4, 0.0):
        text += table(
            f"From the plain ensemble to the default before dilation, noise {noise:g}",
            found,
            former,
            at(noise),
        )
    text += table("Dimension, plain ensemble", found, {"plain-3": "default then, n + 3", "plain-7": "n = 7"})
    for noise in (1e-4, 0.0):
        dims = {"grown-3": "n + 3", "grown-7": "n = 7"}
        text += table(f"Dimension, growth 0.5 of all, noise {noise:g}", found, dims, at(noise))
    text += table("Nine dimensions, growth 0.5 of all", found, dims | {"grown-9": "n = 9"})
    text += table("Centre, growth 0.5, n + 3", found, {"grown-3": "all", "seen-3": "seen"})
    for noise in (1e-2, 1e-4, 0.0):
        both = {"grown-3": "growth 0.5 of all, n + 3", "seen-0.15": "n + 5"}
        text += average(f"Average over two dimensions, noise {noise:g}", found, both, at(noise))
    growth = {"seen-0": "growth 0", "seen-0.15": "0.15 (before)"}
    for noise in (1e-2, 1e-4, 0.0):
        text += table(f"Growth with the default n, noise {noise:g}", found, growth, at(noise))
    growth |= {"seen-0.3": "0.3", "seen-0.5": "0.5", "seen-flat": "factor 1.5 for all of them alike"}
    growth |= {"seen-gaps": "0.5, and of the gaps"}
    text += table("Growth with the default n, other amounts", found, growth)
    # The sixteen tasks on which variants of growth were tried.
    variants = {"plain-3": "growth 0", "pmm-slope05": "growth 0.5", "grown-3-1": "growth 1"}
    variants |= {"pmm-grow05": "0.5, couplings too", "pmm-grow1": "1, couplings too"}
    text += table("Variants of growth", found, variants)
    units = {"pmm-spread": "one unit", "pmm-variation": "own unit"}
    text += table("Units", found, units, at(1e-2)) + each("Units, every task", found, units, at(1e-2))
    treated = {"pmm-spread": "then default", "pmm-defect": "defect"}
    treated |= {"pmm-decaying": "decaying", "pmm-horseshoe": "horseshoe"}
    six = lambda r: r["task"].startswith(SIX)
    text += table("Treatments", found, treated, six) + each("Treatments, every task", found, treated, six)
    # From here on everything but what is named is the default before dilation, widening included.
    references = {"now": "mean of the controls (before)", "ref-0": "lower end", "ref-1": "upper end"}
    title = "Place of c_ref, growth 0.15"
    text += table(title, found, references) + each(f"{title}, every task", found, references)
    for name in ("decaying", "horseshoe"):
        places = {name: "mean of the controls", f"{name}-ref-0": "lower end", f"{name}-ref-1": "upper end"}
        text += table(f"Place of c_ref, couplings {name}", found, places)
    present = {"now": "ensemble (before)", "decaying": "decaying", "horseshoe": "horseshoe"}
    title = "Couplings beside the default before dilation"
    text += table(title, found, present) + each(f"{title}, every task", found, present)
    dims = {"now-dim-5": "n = 5", "now-dim-default": "n = 7 (before)", "now-dim-9": "n = 9"}
    title = "Dimension under the default before dilation"
    text += table(title, found, dims) + each(f"{title}, every task", found, dims)
    text += by_future("Dimensions weighed by leave-future-out", found, dims, "now-dim-default")
    widened = {"now-dim-default": "before", "now-defect": "with a learned defect"}
    title = "Defect beside the default before dilation"
    text += table(title, found, widened) + each(f"{title}, every task", found, widened)
    dilated = {
        "before": "none (before)",
        "dilation": "0.5, growth 0.15",
        "dilation-growth-0": "0.5, growth 0",
    }
    # All widened by the bend. In the last tables others are there because bands had been too narrow.
    of = lambda *numbers: lambda r: r["noise"] == 1e-2 and r["hamiltonian"] in numbers
    title = "Amounts of dilation, widened by the bend, noise 0.01, Hamiltonian 1"
    text += table(title, found, dilated, of(1)) + each(f"{title}, every task", found, dilated, of(1))
    alone = {k: dilated[k] for k in ("before", "dilation-growth-0")}
    title = "Dilation without growth, widened by the bend, noise 0.01, Hamiltonians 1 and 2"
    text += table(title, found, alone, of(1, 2))
    text += each("Dilation without growth, noise 0.01, every task", found, alone, at(1e-2))
    grown = {k: dilated[k] for k in ("before", "dilation")}
    for noise in (1e-2, 0.0):
        text += each(f"Dilation with growth 0.15, noise {noise:g}, every task", found, grown, at(noise))
    little = {
        k: f"0.5, growth {k.rsplit('-', 1)[1]}" for k in ("dilation-growth-0.05", "dilation-growth-0.1")
    }
    text += each(
        "Dilation with a little growth, noise 0.01, every task", found, {"before": "none (before)"} | little
    )
    more = {"before": "none (before)", "dilation-1-growth-0": "1, growth 0"}
    text += each("More dilation, noise 0.01, every task", found, more, at(1e-2))
    seven = {"pmm-variation-7": "ensemble", "pmm-variation-horseshoe-7": "horseshoe"}
    text += table("Couplings with n = 7", found, seven, at(1e-2))
    text += lengths(found) + misspecified(found, "full") + misspecified(found, "auto")
    return text + predictors(found, "bare") + predictors(found, "unwidened")


def main(arguments: list[str] | None = None) -> None:
    """Print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path)
    parser.add_argument("earlier", type=Path)
    args = parser.parse_args(arguments)
    print("\n".join(report(lines.read(args.results) | lines.read(args.earlier))))


if __name__ == "__main__":
    main()

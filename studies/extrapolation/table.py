"""Tables of the extrapolation study, a page of Markdown, from the lines alone.

    python -m studies.extrapolation.table results.jsonl [--ours pmm] > docs/studies/extrapolation_tables.md

Errors at neighbouring points of one curve are nearly one number, so intervals of coverage and of ratios are those of a
bootstrap over whole Hamiltonians, drawn with replacement within their families.
"""

import argparse
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np

from bayes_pmm import scores
from studies.extrapolation import lines, nonlinear
from studies.extrapolation.peers import GENERAL, INFORMED, MATRIX_MODELS

LEVEL = 0.9
NETWORKS = ("bnn", "deep_ensemble")
"""General methods of fixed size, not tuned for each task."""
RESAMPLES = 2000
ADDED = 1e-4
"""Of the spread, added to both sides of a ratio of CRPS: nobody needs more digits."""
LEAST_OF_A_FAMILY = 0.7
DISTANCES = (0.0, 0.1, 0.25, 0.5, 1.0, np.inf)
INTRODUCTION = """# Bands outside the data: all tables

What `python -m studies.extrapolation.table` prints. Coverage is that of the 90 % latent band at points outside the
training region; intervals are 95 % of a bootstrap over Hamiltonians. CRPS are in units of the task's spread, their
ratios geometric means over tasks with 1e-4 added to both sides. {doc}`extrapolation` says what the methods are and what
follows. Coverage, ECE and median CRPS of a method are over its own tasks; ratios and wins are over the tasks that both
have."""
GROUPS = {
    "main": "Main: no small matrix represents the problem",
    "exact": "Apart: a small matrix model represents the problem exactly",
    "misspecified": "Apart: nonlinear eigenvalue problems, which no matrix model represents",
}


def group_of(row: dict) -> str:
    """Key of GROUPS."""
    if row["family"] in nonlinear.FAMILIES:
        return "misspecified"
    return "main" if row["exact_dim"] is None else "exact"


def hits(row: dict) -> np.ndarray:
    """Whether the exact value lies in the central 90 % band, (K, Q)."""
    return np.abs(2 * np.asarray(row["pit"]) - 1) <= LEVEL + 1e-12


def mean_crps(row: dict) -> float:
    """Mean over points and outputs, in units of the spread."""
    return float(np.mean(row["crps"]))


def bootstrap(rows: list[dict], value: np.ndarray, weight: np.ndarray) -> tuple[float, float, float]:
    """Σ value / Σ weight over rows, and its 95 % interval over resampled Hamiltonians; NaN where none has a sibling."""
    clusters: dict[str, dict[int, np.ndarray]] = {}
    for row, v, w in zip(rows, value, weight, strict=True):
        family = clusters.setdefault(row["family"], {})
        family[row["hamiltonian"]] = family.get(row["hamiltonian"], np.zeros(2)) + np.array([v, w])
    whole = float(np.sum(value) / np.sum(weight))
    if all(len(family) == 1 for family in clusters.values()):
        return whole, np.nan, np.nan
    rng = np.random.default_rng(0)
    total = np.zeros((RESAMPLES, 2))
    for family in clusters.values():
        sums = np.stack(list(family.values()))
        total += sums[rng.integers(len(sums), size=(RESAMPLES, len(sums)))].sum(axis=1)
    low, high = np.quantile(total[:, 0] / total[:, 1], (0.025, 0.975))
    return whole, float(low), float(high)


def coverage(rows: list[dict]) -> tuple[float, float, float]:
    """Pooled coverage of the 90 % band and its interval."""
    inside = [hits(r) for r in rows]
    return bootstrap(rows, np.array([h.sum() for h in inside]), np.array([h.size for h in inside]))


def calibration_error(rows: list[dict]) -> float:
    """Expected calibration error of the central intervals from 10 to 90 %."""
    return scores.ece(np.concatenate([np.ravel(r["pit"]) for r in rows]))


def low_families(rows: list[dict]) -> str:
    """Families whose coverage is below LEAST_OF_A_FAMILY."""
    each = {f: coverage([r for r in rows if r["family"] == f])[0] for f in {r["family"] for r in rows}}
    low = sorted((c, f) for f, c in each.items() if c < LEAST_OF_A_FAMILY)
    return ", ".join(f"{f} {c:.2f}" for c, f in low) or "none"


def log_ratio(ours: dict, theirs: dict) -> float:
    """Log of our CRPS over theirs."""
    return float(np.log((mean_crps(ours) + ADDED) / (mean_crps(theirs) + ADDED)))


def geometric(pairs: list[tuple[dict, dict]]) -> tuple[float, float, float]:
    """Geometric mean over tasks of our CRPS over theirs, and its interval."""
    value = np.array([log_ratio(a, b) for a, b in pairs])
    return tuple(float(np.exp(v)) for v in bootstrap([a for a, _ in pairs], value, np.ones(len(value))))


class Results:
    """Lines of one of our methods and of the peers."""

    def __init__(self, found: dict[tuple[str, str], dict], ours: str):
        self.found, self.ours = found, ours
        self.done = {k: r for k, r in found.items() if r["status"] == "done"}
        present = {m for _, m in found}
        self.general = [m for m in GENERAL if m in present]
        self.matrix_models = [m for m in MATRIX_MODELS if m in present]
        self.informed = [m for m in INFORMED if m in present]
        self.other_ours = sorted({r["method"] for r in found.values() if r["ours"]} - {ours})

    def rows(
        self, method: str, group: str, noise: float | None = None, family: str | None = None
    ) -> list[dict]:
        """Finished lines of a method."""
        return [
            r
            for (_, m), r in self.done.items()
            if m == method
            and group_of(r) == group
            and (noise is None or r["noise"] == noise)
            and (family is None or r["family"] == family)
        ]

    def noises(self, group: str) -> list[float]:
        """Noises with lines, largest first."""
        return sorted({r["noise"] for r in self.found.values() if group_of(r) == group}, reverse=True)

    def best(self, task: str, without: tuple[str, ...] = ()) -> dict | None:
        """Line of the general method with the smallest CRPS on a task, chosen afterwards."""
        there = [self.done[task, m] for m in self.general if m not in without and (task, m) in self.done]
        return min(there, key=mean_crps) if there else None

    def pairs(self, rows: list[dict], method: str | None) -> list[tuple[dict, dict]]:
        """Our lines with those of a method, or of the best general one, on the same tasks."""
        other = [self.best(r["task"]) if method is None else self.done.get((r["task"], method)) for r in rows]
        return [(r, o) for r, o in zip(rows, other, strict=True) if o is not None]


def interval(v: tuple[float, float, float], form: str = ".2f") -> str:
    """Value with its interval, where there is one."""
    value, low, high = (format(x, form) for x in v)
    return value if np.isnan(v[1]) else f"{value} [{low}, {high}]"


def _line(*cells) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def _head(*cells) -> list[str]:
    return [_line(*cells), "|" + "---|" * len(cells)]


def _against(pairs: list[tuple[dict, dict]]) -> tuple[str, str]:
    if not pairs:
        return "", ""
    won = sum(log_ratio(a, b) < 0 for a, b in pairs)
    return interval(geometric(pairs), ".2g"), f"{won} of {len(pairs)}"


def methods_table(results: Results, group: str, noise: float | None) -> list[str]:
    """One line for each method: coverage, calibration, our CRPS against it; all noises together if None."""
    text = _head(
        "method", "tasks", "failed", "coverage of the 90 % band", "ECE", "median CRPS", "our CRPS / its", "we win",
        "median CPU s",
    )  # fmt: skip
    ours = results.rows(results.ours, group, noise)
    names = [results.ours, *results.other_ours, *results.general, *results.matrix_models, *results.informed]
    for name in names:
        rows = results.rows(name, group, noise)
        failed = sum(
            r["status"] == "failed"
            for (_, m), r in results.found.items()
            if m == name and group_of(r) == group and noise in (None, r["noise"])
        )
        if not rows:
            if failed:
                text.append(_line(name, 0, failed, *[""] * 6))
            continue
        ratio, won = ("", "") if name == results.ours else _against(results.pairs(ours, name))
        text.append(
            _line(
                name,
                len(rows),
                failed,
                interval(coverage(rows)),
                f"{calibration_error(rows):.3f}",
                f"{np.median([mean_crps(r) for r in rows]):.3g}",
                ratio,
                won,
                f"{np.median([r['cpu_seconds'] for r in rows]):.1f}",
            )
        )
    if results.general:
        ratio, won = _against(results.pairs(ours, None))
        text.append(_line("*best general method of each task*", "", "", "", "", "", ratio, won, ""))
    return text


def families_table(results: Results, group: str, noise: float) -> list[str]:
    """One line for each family: our coverage, calibration and CRPS against the best general method."""
    text = _head(
        "family", "tasks", "coverage of the 90 % band", "ECE", "our CRPS / best general", "we win", "best general",
        "its coverage", "status",
    )  # fmt: skip
    families = dict.fromkeys(r["family"] for r in results.rows(results.ours, group, noise))
    for family in families:
        rows = results.rows(results.ours, group, noise, family)
        pairs = results.pairs(rows, None)
        ratio, won = _against(pairs)
        best = Counter(b["method"] for _, b in pairs).most_common()
        statuses = Counter(r["about"]["status"] for r in rows)
        text.append(
            _line(
                family,
                len(rows),
                interval(coverage(rows)),
                f"{calibration_error(rows):.3f}",
                ratio,
                won,
                ", ".join(f"{n} {m}" for m, n in best),
                f"{coverage([b for _, b in pairs])[0]:.2f}" if pairs else "",
                ", ".join(f"{n} {s}" for s, n in statuses.most_common()),
            )
        )
    return text


def distances_table(results: Results, group: str, noise: float) -> list[str]:
    """Coverage against the distance from the training region."""
    ends = list(pairwise(DISTANCES))
    text = _head("method", *(f"{a:g} to {b:g}" if np.isfinite(b) else f"beyond {a:g}" for a, b in ends))
    for name in [results.ours, *results.general, *results.matrix_models]:
        rows = results.rows(name, group, noise)
        if not rows:
            continue
        inside = np.concatenate([hits(r).mean(axis=1) for r in rows])
        distance = np.concatenate([r["distance"] for r in rows])
        cells = [inside[(distance > a) & (distance <= b)] for a, b in ends]
        text.append(_line(name, *(f"{c.mean():.2f} ({len(c)})" if len(c) else "" for c in cells)))
    return text


def losses(results: Results, group: str) -> list[str]:
    """Every task on which a method with the same data has a smaller CRPS, and which ones do."""
    text = _head("task", "our CRPS", "coverage", "status", "smaller CRPS")
    rivals = [*results.general, *results.matrix_models]
    for row in results.rows(results.ours, group):
        mine = mean_crps(row)
        better = sorted(
            (mean_crps(results.done[row["task"], m]), m)
            for m in rivals
            if (row["task"], m) in results.done and log_ratio(row, results.done[row["task"], m]) > 0
        )
        if better:
            names = ", ".join(f"{m} {v:.3g}" for v, m in better)
            text.append(
                _line(row["task"], f"{mine:.3g}", f"{hits(row).mean():.2f}", row["about"]["status"], names)
            )
    if len(text) == 2:
        return ["None."]
    count = len(results.rows(results.ours, group))
    return [
        *text,
        "",
        f"{len(text) - 2} of {count} tasks have a method with the same data and a smaller CRPS.",
    ]


def flags_text(results: Results, group: str) -> list[str]:
    """Points that the fit calls doubtful, by reason, and the misses among them."""
    flagged = [r for r in results.rows(results.ours, group) if "flags" in r]
    if not flagged:
        return []
    text = _head("noise", "doubt", "points", "outside the band", "share of all misses")
    for noise in sorted({r["noise"] for r in flagged}, reverse=True):
        cells_of = _flags([r for r in flagged if r["noise"] == noise])
        text += [_line(f"{noise:g}", *cells) for cells in cells_of]
    return ["### Doubtful points", "", *text, ""]


def _flags(rows: list[dict]) -> list[tuple[str, str, str, str]]:
    missed = ~np.concatenate([np.ravel(hits(r)) for r in rows])
    whole = lambda pick: np.concatenate([np.ravel(pick(r)) for r in rows]).astype(bool)
    kinds = {"any": whole(lambda r: r["flags"])}
    for name in sorted({name for r in rows for name in r.get("doubts", {})}):
        kinds[name] = whole(lambda r, name=name: r.get("doubts", {}).get(name, np.zeros(np.shape(r["pit"]))))
    kinds["none"] = ~kinds["any"]
    found = []
    for name, where in kinds.items():
        outside = f"{missed[where].mean():.1%}" if where.any() else ""
        share = f"{(missed & where).sum() / missed.sum():.0%}" if missed.any() else ""
        found.append((name, f"{where.sum()} of {where.size}", outside, share))
    return found


def status_table(results: Results, group: str) -> list[str]:
    """Our coverage by the status of the fit."""
    rows = results.rows(results.ours, group)
    text = _head("status", "tasks", "coverage of the 90 % band", "median width / spread")
    for status, _ in Counter(r["about"]["status"] for r in rows).most_common():
        chosen = [r for r in rows if r["about"]["status"] == status]
        width = np.concatenate([np.ravel(np.subtract(r["q95"], r["q05"])) for r in chosen])
        text.append(_line(status, len(chosen), interval(coverage(chosen)), f"{np.median(width):.3g}"))
    return text


def misspecified_table(results: Results) -> list[str]:
    """One line for each nonlinear problem: the band must be wide or the status suspect."""
    text = _head(
        "task", "status", "floor / spread", "coverage", "width / spread", "error / spread", "points doubted"
    )
    for r in results.rows(results.ours, "misspecified"):
        floor = ", ".join(f"{f:.2g}" for f in r["about"].get("floor", []))
        width = np.mean(np.subtract(r["q95"], r["q05"]))
        flagged = f"{np.mean(r['flags']):.0%}" if "flags" in r else ""
        text.append(
            _line(
                r["task"],
                r["about"]["status"],
                floor,
                f"{hits(r).mean():.2f}",
                f"{width:.2g}",
                f"{np.mean(r['error']):.2g}",
                flagged,
            )
        )
    return text


def failures(results: Results) -> list[str]:
    """Cells that failed."""
    return [f"- {t} {m}: {r['message']}" for (t, m), r in results.found.items() if r["status"] == "failed"]


def figures(results: Results) -> list[str]:
    """The figures that matter with what was aimed at, over the main group."""
    text = _head("figure", "aim", *(f"noise {n:g}" for n in results.noises("main")))
    by_noise = [results.rows(results.ours, "main", n) for n in results.noises("main")]

    def line(name, aim, cell):
        text.append(_line(name, aim, *(cell(rows) if rows else "" for rows in by_noise)))

    def ratios(rows, methods):
        found = {m: results.pairs(rows, m) for m in methods}
        return ", ".join(f"{m} {geometric(p)[0]:.2g} ({len(p)})" for m, p in found.items() if p)

    def won(rows, methods):
        found = {m: results.pairs(rows, m) for m in methods}
        shares = {m: np.mean([log_ratio(a, b) < 0 for a, b in p]) for m, p in found.items() if p}
        return ", ".join(f"{m} {s:.0%}" for m, s in sorted(shares.items(), key=lambda x: x[1])[:3])

    def doubted(rows):
        flags = np.concatenate([np.ravel(r["flags"]) for r in rows]).astype(bool)
        missed = ~np.concatenate([np.ravel(hits(r)) for r in rows])
        return f"{flags.mean():.0%}, {(flags & missed).sum() / missed.sum():.0%}" if missed.any() else ""

    def best(rows, without=()):
        found = [(r, other) for r in rows if (other := results.best(r["task"], without))]
        return interval(geometric(found), ".2g") if found else ""

    def statuses(rows):
        count = Counter(r["about"]["status"] for r in rows)
        return ", ".join(str(count[s]) for s in ("ok", "suspect", "failed"))

    line("tasks", "", len)
    line(
        "pooled coverage of the 90 % band",
        "interval meets [0.87, 0.95]",
        lambda rows: interval(coverage(rows)),
    )
    line(f"families below {LEAST_OF_A_FAMILY:.2f}", "none", low_families)
    line("ECE of central intervals", "0.05", lambda rows: f"{calibration_error(rows):.3f}")
    line("CRPS over that of the best general method, chosen for each task afterwards", "0.4", best)
    line("the same, the networks left out", "", lambda rows: best(rows, NETWORKS))
    line(
        "CRPS over that of each deterministic matrix model (tasks)",
        "0.8",
        lambda rows: ratios(rows, results.matrix_models),
    )
    line(
        "share of tasks won against single peers, least three",
        "70 %",
        lambda rows: won(rows, [*results.general, *results.matrix_models]),
    )
    line("points doubted, share of all misses at them", "5 to 40 %, 60 %", doubted)
    line("fits `ok`, `suspect`, `failed`, with chains of this length", "", statuses)
    return text


def report(results: Results) -> str:
    """All tables."""
    text = [INTRODUCTION, ""]
    text += ["## Figures", "", *figures(results), ""] if results.noises("main") else []
    for group, title in GROUPS.items():
        if not any(group_of(r) == group for r in results.found.values()):
            continue
        text += [f"## {title}", ""]
        for noise in results.noises(group):
            text += [f"### Noise {noise:g}", "", *methods_table(results, group, noise), ""]
            if results.rows(results.ours, group, noise):
                text += [*families_table(results, group, noise), ""]
            text += ["Coverage by distance, in widths of the training region (number of points):", ""]
            text += [*distances_table(results, group, noise), ""]
        if results.rows(results.ours, group):
            text += [
                "### Status of our fits",
                "",
                *status_table(results, group),
                "",
                *flags_text(results, group),
            ]
            text += ["### Every loss", "", *losses(results, group), ""]
            if group == "misspecified":
                text += ["### Every task", "", *misspecified_table(results), ""]
    if failed := failures(results):
        text += ["## Failed", "", *failed, ""]
    return "\n".join(text)


def main(arguments: list[str] | None = None) -> None:
    """Print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path)
    parser.add_argument("--ours", default="pmm", help="label of our method in the lines")
    parser.add_argument("--hamiltonians", type=int, nargs="+", help="only these; all if not given")
    args = parser.parse_args(arguments)
    found = lines.read(args.results)
    if args.hamiltonians is not None:
        found = {k: r for k, r in found.items() if r["hamiltonian"] in args.hamiltonians}
    print(report(Results(found, args.ours)))


if __name__ == "__main__":
    main()

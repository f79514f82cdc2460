"""The demo with several seeds: status, convergence, time, and exact values inside the band outside the data.

python studies/demo.py --out DIR [--seeds 5]       # resumable: finished seeds are not run again
"""

import argparse
import csv
import json
import subprocess
import sys
from pathlib import Path

from bayes_pmm import problems


def inside(folder, outside):
    """How many exact values at the outside controls lie inside the 90 % latent band, and how many there are."""
    problem = problems.get("oscillator")
    exact = dict(zip(map(float, outside[:, 0].round(6)), problem.exact(outside), strict=True))
    hits = []
    with (folder / "bands.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            g = round(float(row["g"]), 6)
            if row["kind"] == "latent" and g in exact:
                value = exact[g][int(row["output"][1:])]
                hits.append(float(row["q05"]) <= value <= float(row["q95"]))
    return sum(hits), len(hits)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    print("| seed | status | R-hat | ESS | sampler | sampling s | inside |\n|" + "---|" * 7)
    total = count = 0
    for seed in range(args.seeds):
        folder = args.out / str(seed)
        if not (folder / "summary.json").exists():
            command = [sys.executable, "-m", "bayes_pmm", "demo", "--seed", str(seed), "--out", str(folder)]
            subprocess.run(command, check=True, capture_output=True)
        s = json.loads((folder / "summary.json").read_text())
        hits, n = inside(folder, problems.get("oscillator").outside)
        total, count = total + hits, count + n
        print(
            f"| {seed} | {s['status']} | {s['max_rhat']:.4f} | {s['min_ess']:.0f} | {s['sampler']} |"
            f" {s['seconds']:.0f} | {hits} of {n} |",
            flush=True,
        )
    print(
        f"\n{total} of {count} ({total / count:.0%}) exact values outside the data inside the 90 % latent band"
    )


if __name__ == "__main__":
    main()

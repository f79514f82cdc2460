"""Can the noise be told from the data alone? Residuals of the best polynomial, in spreads, at three noises.

python -m studies.extrapolation.residuals FAMILY ...
"""

import argparse

import numpy as np

from bayes_pmm import problems
from bayes_pmm.basis import Polynomial

NOISES = ("0", "1e-4", "1e-2")
LEFT = 3
"""Degrees of freedom that a polynomial must leave."""


def residual(controls: np.ndarray, y: np.ndarray) -> float:
    """Least standard deviation of the residuals (N,) over the degrees, less the degrees of freedom, in spreads."""
    z = (controls - controls.mean(0)) / np.abs(controls - controls.mean(0)).max(0)
    found = []
    for degree in range(1, len(y)):
        A = np.asarray(Polynomial(degree)(z))
        if len(y) - A.shape[1] < LEFT:
            break
        Q = np.linalg.qr(A)[0]
        found.append(np.sqrt(np.sum((y - Q @ (Q.T @ y)) ** 2) / (len(y) - A.shape[1])))
    return min(found) / y.std()


def main() -> None:
    """Print root mean squares over the outputs, Hamiltonians 0 to 2."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("families", nargs="+")
    for family in parser.parse_args().families:
        cells = []
        for noise in NOISES:
            names = [n for n in problems.tasks((noise,), range(3)) if n.split("/")[0] == family]
            each = []
            for data in (problems.task(n).data for n in names):
                own = [
                    residual(data.controls[m], y[m]) for y, m in zip(data.values.T, data.mask.T, strict=True)
                ]
                each.append(np.sqrt(np.mean(np.square(own))))
            cells.append(" ".join(f"{x:.0e}" for x in each))
        print(f"{family:16}", " | ".join(cells), flush=True)


if __name__ == "__main__":
    main()

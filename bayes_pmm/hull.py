"""Which points lie in the convex hull of others, flat hulls and many dimensions included."""

import numpy as np
import scipy  # its parts are loaded when they are used, which this package's import does not wait for

__all__ = ["TOLERANCE", "distance_to_hull", "inside_hull"]

TOLERANCE = 1e-9
"""Distance, in units of each control's range, by which a point may lie outside and still count as inside."""

# A hull has up to rows^(dimension/2) facets: beyond this, one linear program per point is cheaper.
_MAX_DIMENSION = 5
_CHUNK = 1 << 22


def inside_hull(trained: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return which points lie in the convex hull of the training points, its boundary included.

    The hull may be flat: directions in which the training points extend by no more than the tolerance are
    split off first, and there a point has to lie on the flat.

    Parameters
    ----------
    trained : ndarray, shape (N, p)
        In units of the range of each control, like `points`.
    points : ndarray, shape (K, p)

    Returns
    -------
    ndarray of bool, shape (K,)
    """
    centre = trained.mean(axis=0)
    # All p directions are wanted, also those in which nothing extends, but not the rows' own square matrix.
    directions = np.linalg.svd(np.linalg.qr(trained - centre, mode="r"), full_matrices=True)[2].T
    trained, points = (trained - centre) @ directions, (points - centre) @ directions
    low, high = trained.min(axis=0), trained.max(axis=0)
    inside = np.all((points >= low - TOLERANCE) & (points <= high + TOLERANCE), axis=1)
    extended = high - low > TOLERANCE
    # In one dimension the box is the hull, in none it is the only point.
    if extended.sum() > 1:
        candidates = np.flatnonzero(inside)
        inside[candidates] = _in_full_hull(trained[:, extended], points[np.ix_(candidates, extended)])
    return inside


def distance_to_hull(trained: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return the Euclidean distance of points from the convex hull of the training points, 0 inside.

    Parameters
    ----------
    trained : ndarray, shape (N, p)
        In units of the range of each control, like `points`.
    points : ndarray, shape (K, p)

    Returns
    -------
    ndarray, shape (K,)

    Notes
    -----
    The nearest point Σ w_i x_i with w ≥ 0, Σ w_i = 1 is a non-negative least squares problem in which the sum
    of the weights is one more equation of large weight.
    """
    outside = ~inside_hull(trained, points)
    distance = np.zeros(len(points))
    if trained.shape[1] == 1:
        low, high = trained.min(), trained.max()
        return np.where(outside, np.maximum(low - points[:, 0], points[:, 0] - high), 0.0)
    for k in np.flatnonzero(outside):
        away = trained - points[k]
        heavy = 1e4 * np.max(np.abs(away))
        w, _ = scipy.optimize.nnls(
            np.vstack([away.T, np.full(len(away), heavy)]), np.append(np.zeros(away.shape[1]), heavy)
        )
        distance[k] = np.linalg.norm(w @ away / w.sum())
    return distance


def _in_full_hull(trained: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return which points lie in a hull that is not flat, from its facets or by linear programming."""
    if trained.shape[1] <= _MAX_DIMENSION:
        try:
            facets = scipy.spatial.ConvexHull(trained).equations
        except scipy.spatial.QhullError:
            pass
        else:
            step = max(1, _CHUNK // len(facets))
            parts = [
                np.all(points[i : i + step] @ facets[:, :-1].T <= TOLERANCE - facets[:, -1], axis=1)
                for i in range(0, len(points), step)
            ]
            return np.concatenate(parts) if parts else np.zeros(0, dtype=bool)
    return np.array([_is_mixture(trained, point) for point in points], dtype=bool)


def _is_mixture(trained: np.ndarray, point: np.ndarray) -> bool:
    """Return whether weights w ≥ 0, Σ w = 1, with |Σ_i w_i x_i − point| within the tolerance, exist."""
    result = scipy.optimize.linprog(
        np.zeros(len(trained)),
        A_ub=np.concatenate([trained.T, -trained.T]),
        b_ub=np.concatenate([point, -point]) + TOLERANCE,
        A_eq=np.ones((1, len(trained))),
        b_eq=[1.0],
        method="highs",
        options={"primal_feasibility_tolerance": 1e-10},
    )
    return result.status == 0

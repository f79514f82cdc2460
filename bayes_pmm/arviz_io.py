r"""One xarray.DataTree with ArviZ's groups: built from a fit, stored as netCDF, read back.

The tree has the groups posterior, sample_stats, log_likelihood, log_prior (by site), posterior_predictive, prior,
prior_predictive, observed_data, constant_data, training (the data set as it was given) and, with predictions,
predictions and predictions_constant_data. Observed cells lie on one flat dimension ``obs_id`` ("E0 at g = 0.5") whose
coordinates are the controls and the output's name; ArviZ's plots need that. :func:`to_arviz` gives what the installed
ArviZ works on.
"""

import json
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from bayes_pmm import gauge
from bayes_pmm.basis import Basis, parse_basis
from bayes_pmm.convergence import import_arviz
from bayes_pmm.data import Dataset
from bayes_pmm.defect import Defect, Growth
from bayes_pmm.diagnostics import Diagnosis
from bayes_pmm.errors import InputError
from bayes_pmm.files import new_file
from bayes_pmm.inference.modes import weights_of
from bayes_pmm.inference.protocol import Draws, floors_of, outputs_of, prior_draws
from bayes_pmm.model import PMM
from bayes_pmm.noise import Noise
from bayes_pmm.posterior import Posterior
from bayes_pmm.priors import Prior
from bayes_pmm.scaling import Scaling
from bayes_pmm.settings import stream
from bayes_pmm.widening import Widening

__all__ = [
    "FORMAT",
    "build_tree",
    "prediction_controls",
    "read_tree",
    "restore",
    "restore_defect",
    "to_arviz",
    "write_tree",
]

FORMAT = "bayes_pmm fit 1"
PRIOR_DRAWS = 500
WEIGHT = "weight"
"""Weight of each draw, among the statistics: chains in different modes do not count alike."""
METADATA = 200_000
"""About the bytes of a stored fit beside its arrays."""
TAKEN = ("chain", "draw", "obs_id", "pred_id", "output", "output_index", "y", "error", "latent")
"""Names that a control may not have in the groups with cells; there it gets another."""


def to_arviz(tree: xr.DataTree) -> Any:
    """What the installed ArviZ works on: InferenceData for 0.x, the DataTree itself for 1.x."""
    az = import_arviz()
    return az.from_datatree(tree) if hasattr(az, "from_datatree") else tree


def build_tree(
    posterior: Posterior,
    draws: Draws,
    diagnosis: Diagnosis,
    outputs: np.ndarray,
    key: jax.Array,
    predictions: tuple[np.ndarray, dict[str, np.ndarray]] | None = None,
    defect: Defect | None = None,
) -> xr.DataTree:
    """Tree of a fit.

    Parameters
    ----------
    posterior, draws, diagnosis
        The fit.
    outputs : array (chain, draw, N, Q)
        Outputs at the training controls, without floor and noise.
    key : PRNG key
        For predictive and prior draws, and stored as the fit's own.
    predictions : (controls (P, p), dict of kind to array (chain, draw, P, Q)), optional
    defect : Defect, optional
    """
    data = posterior.data
    rows, cols = np.nonzero(data.mask)
    obs = _cells(data, data.controls, rows, cols, "obs_id")
    k_noise, k_prior = jax.random.split(stream(key, "groups"))
    cells = outputs[:, :, rows, cols]
    sd = np.sqrt(floors_of(posterior, draws)[:, :, cols] ** 2 + data.errors[rows, cols] ** 2)
    residual = (data.values[rows, cols] - cells) / sd
    log_likelihood = -0.5 * residual**2 - np.log(sd) - 0.5 * np.log(2 * np.pi)
    replicated = cells + sd * np.asarray(jax.random.normal(k_noise, cells.shape))
    prior_sites, prior_cells, prior_y = _prior_draws(posterior, k_prior, rows, cols)
    chains = {"chain": np.arange(cells.shape[0]), "draw": np.arange(cells.shape[1])}
    weight = np.repeat(weights_of(draws)[:, None], cells.shape[1], axis=1)
    groups = {
        "posterior": _sites_dataset(posterior, draws.sites, cells, obs, chains),
        "sample_stats": xr.Dataset(
            {k: (("chain", "draw"), v) for k, v in (draws.stats | {WEIGHT: weight}).items()}, chains
        ),
        "log_likelihood": _on_cells({"y": log_likelihood}, obs, chains),
        "log_prior": _log_priors(posterior, draws.sites, chains),
        "posterior_predictive": _on_cells({"y": replicated}, obs, chains),
        "prior": _sites_dataset(posterior, prior_sites, prior_cells, obs, _count(prior_cells)),
        "prior_predictive": _on_cells({"y": prior_y}, obs, _count(prior_y)),
        "observed_data": xr.Dataset({"y": ("obs_id", data.values[rows, cols])}, obs),
        "constant_data": xr.Dataset(
            {
                **{
                    name: ("obs_id", data.controls[rows, j])
                    for j, name in enumerate(_names_in_groups(data.control_names)[1])
                },
                "output_index": ("obs_id", cols),
                "error": ("obs_id", data.errors[rows, cols]),
            },
            obs,
        ),
        "training": _training(data),
    }
    if predictions is not None:
        controls, samples = predictions
        r, q = (a.ravel() for a in np.indices((len(controls), data.n_outputs)))
        new = _cells(data, controls, r, q, "pred_id")
        flat = {k: v.reshape(*v.shape[:2], -1) for k, v in samples.items()}
        groups["predictions"] = _on_cells(
            {"latent": flat["latent"], "y": flat["predictive"]}, new, chains, "pred_id"
        )
        groups["predictions_constant_data"] = xr.Dataset(
            {
                name: ("pred_id", controls[r, j])
                for j, name in enumerate(_names_in_groups(data.control_names)[1])
            },
            new,
        )
    stamp = {
        "inference_library": "numpyro",
        "inference_library_version": version("numpyro"),
        "creation_library": "bayes_pmm",
        "creation_library_version": version("bayes_pmm"),
        "sampling_time": float(draws.info["seconds"]),
    }
    for name in ("posterior", "sample_stats"):
        groups[name].attrs.update(stamp)
    tree = xr.DataTree.from_dict(groups)
    tree.attrs.update(
        format=FORMAT, bayes_pmm=json.dumps(_description(posterior, draws, diagnosis, key, defect)), **stamp
    )
    return tree


def write_tree(tree: xr.DataTree, path: str | Path) -> None:
    """Store a tree as netCDF under a name that does not exist yet; nothing half-written stays behind.

    Raises
    ------
    InputError
        If the file exists or cannot be written.
    BayesPMMError
        If the disk is full.
    """
    # HDF5 raises OSError or RuntimeError, also when it closes the file.
    with new_file(Path(path), RuntimeError) as partial:
        # On a full disk HDF5 goes on complaining on standard error until the process ends: find out before.
        partial.write_bytes(bytes(tree.nbytes + METADATA))
        with warnings.catch_warnings():
            # A control called "B (mT)" is stored as a variable, and read back as a control.
            warnings.filterwarnings("ignore", message="coordinate .* has a space in its name")
            tree.to_netcdf(partial, engine="h5netcdf")


def read_tree(path: str | Path) -> xr.DataTree:
    """Tree stored by :func:`write_tree`, read whole into memory.

    Raises
    ------
    InputError
        If there is no such file, it is truncated, or it is not a fit of this package.
    """
    path = Path(path)
    if not path.is_file():
        if (path.parent / "checkpoint").is_dir():
            raise InputError(
                f"{path.parent}: this run is not finished; go on with it by the same fit command and --resume"
            )
        raise InputError(f"{path}: no such file; give the folder or file of a finished fit")
    try:
        with xr.open_datatree(path, engine="h5netcdf") as stored:
            tree = stored.load()
    except MemoryError:
        raise
    except Exception as error:  # the netCDF stack raises many kinds on foreign bytes
        raise InputError(
            f"{path}: cannot be read as netCDF ({type(error).__name__}); it is truncated or foreign: fit again"
        ) from error
    found = tree.attrs.get("format")
    if found is None:
        raise InputError(
            f"{path}: is netCDF but not a fit of this package; give the folder or file of a finished fit"
        )
    if found != FORMAT:
        raise InputError(
            f"{path}: has the format '{found}', and this version reads '{FORMAT}'; use the version that wrote it,"
            " or fit again"
        )
    return tree


def restore(tree: xr.DataTree, basis: Basis | None = None) -> tuple[Posterior, Draws, Diagnosis, jax.Array]:
    """Posterior, draws, diagnosis and key of a stored fit.

    Parameters
    ----------
    tree : DataTree
    basis : Basis, optional
        Needed where the fit had a user's own basis; it must have the same name and number of terms.

    Raises
    ------
    InputError
        If the tree is damaged, or the basis is missing or another one.
    """
    try:
        about = json.loads(tree.attrs["bayes_pmm"])
        training = tree.children["training"].dataset
        data = Dataset(
            training["controls"].values,
            training["values"].values,
            training["errors"].values,
            tuple(map(str, training["control"].values)),
            tuple(map(str, training["output"].values)),
            training.attrs.get("source"),
            tuple(map(str, training["row_label"].values)) if "row_label" in training else None,
        )
        pmm = PMM(about["outputs"], about["dim"], _basis(about, data.n_controls, basis), about["field"])
        scaling = Scaling.from_dict(about["scaling"])
        terms = about.get("terms")
        if terms is not None and not np.allclose(_terms(data, pmm, scaling), terms):
            raise InputError(
                f"the fit's basis '{about['basis']}' has other terms at the training controls than basis = '{basis}';"
                " pass the one that it was fitted with"
            )
        posterior = Posterior(
            data,
            pmm,
            # What a file does not name did not exist when it was written.
            Prior(
                **{"terms_unit": "spread", "growth": 0.0, "dilation": 0.0, "centre": "all"} | about["prior"]
            ),
            Noise(**about["noise"]),
            scaling,
            Widening(**about.get("widening", {"rate": 0.0})),
        )
        # Dilations were a site for a while and are integrated out now: the draws of the others are the same.
        names = [k for k in about["sites"] if k != "dilation"]
        sites = {k: tree.children["posterior"].dataset[k].values for k in names}
        stats = {
            str(k): v.values
            for k, v in tree.children["sample_stats"].dataset.data_vars.items()
            if k != WEIGHT
        }
        diagnosis = Diagnosis(**(about["diagnosis"] | {"reasons": tuple(about["diagnosis"]["reasons"])}))
        bits = jnp.asarray(about["key"], jnp.uint32)
        key = jax.random.wrap_key_data(bits, impl=about.get("key_impl", "threefry2x32"))
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"the stored fit is damaged ({error}); fit again") from error
    return posterior, Draws(sites, stats, about["info"]), diagnosis, key


def restore_defect(tree: xr.DataTree) -> Defect | None:
    """Defect of a stored fit, or None.

    Raises
    ------
    InputError
        If what is stored is damaged.
    """
    stored = json.loads(tree.attrs["bayes_pmm"]).get("defect")
    if stored is None:
        return None
    try:
        return Defect(tuple(stored["scales"]), tuple(stored["probabilities"]), Growth(**stored["growth"]))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"the stored fit is damaged ({error}); fit again") from error


def _basis(about: dict, n_controls: int, given: Basis | None) -> Basis:
    """Basis of a stored fit; a user's own must be given again, of the same name and number of terms."""
    name, terms = about["basis"], len(about["scaling"]["term_reference"])
    if given is None:
        if about["basis_is_custom"]:
            raise InputError(f"the fit has its own basis '{name}'; pass basis= when loading it")
        return parse_basis(name)
    if about["basis_is_custom"]:
        # An object without a name is called by its address, which is another one now.
        named = str(given) == name or " object at 0x" in name
        same = isinstance(given, Basis) and named and given.n_terms(n_controls) == terms
    else:
        same = given == parse_basis(name)
    if not same:
        raise InputError(
            f"the fit's basis is '{name}' with {terms} terms, and basis = '{given}' is another; pass that one"
        )
    return given


def _terms(data: Dataset, pmm: PMM, scaling: Scaling) -> list[list[float]]:
    """The basis at the training controls, by which another one of the same name is known."""
    return np.asarray(scaling.coefficients(pmm.basis, data.controls)).tolist()


def _description(
    posterior: Posterior, draws: Draws, diagnosis: Diagnosis, key: jax.Array, defect: Defect | None
) -> dict:
    """Everything but arrays that restores a fit."""
    basis = str(posterior.pmm.basis)
    try:
        custom = parse_basis(basis) != posterior.pmm.basis
    except InputError:
        custom = True
    return {
        "outputs": [str(o) for o in posterior.pmm.outputs],
        "dim": posterior.pmm.dim,
        "field": posterior.pmm.field,
        "basis": basis,
        "basis_is_custom": custom,
        "terms": _terms(posterior.data, posterior.pmm, posterior.scaling) if custom else None,
        "prior": asdict(posterior.prior),
        "noise": asdict(posterior.noise),
        "scaling": posterior.scaling.to_dict(),
        "widening": asdict(posterior.widening),
        "sites": list(draws.sites),
        "info": draws.info,
        "diagnosis": asdict(diagnosis),
        "key": np.asarray(jax.random.key_data(key)).tolist(),
        "key_impl": str(jax.random.key_impl(key)),
        "defect": None if defect is None else asdict(defect),
    }


def _training(data: Dataset) -> xr.Dataset:
    """The data set; where it came from is kept for messages."""
    labels = {} if data.row_labels is None else {"row_label": ("row", list(data.row_labels))}
    return xr.Dataset(
        {
            "controls": (("row", "control"), data.controls),
            "values": (("row", "output"), data.values),
            "errors": (("row", "output"), data.errors),
        },
        {"control": list(data.control_names), "output": list(data.output_names), **labels},
        {} if data.source is None else {"source": str(data.source)},
    )


def _cells(data: Dataset, controls: np.ndarray, rows: np.ndarray, cols: np.ndarray, dim: str) -> dict:
    """Coordinates of flat cells: a label that differs from all others, controls, output's name."""
    coords: dict[str, Any] = {dim: _labels(data, controls, rows, cols)}
    for j, name in enumerate(_names_in_groups(data.control_names)[0]):
        coords[name] = (dim, controls[rows, j])
    coords["output"] = (dim, np.array(data.output_names)[cols])
    return coords


def _labels(data: Dataset, controls: np.ndarray, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    """What ``az.summary`` calls the cells: "E0 at g = 0.5", and "E0 at g = 0.5 (2)" for a second one."""
    labels: list[str] = []
    seen: Counter[str] = Counter()
    for row, col in zip(rows, cols, strict=True):
        values = (f"{n} = {c:.6g}" for n, c in zip(data.control_names, controls[row], strict=True))
        label = f"{data.output_names[col]} at {', '.join(values)}"
        seen[label] += 1
        labels.append(label if seen[label] == 1 else f"{label} ({seen[label]})")
    return np.array(labels)


def _names_in_groups(controls: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names of the coordinates and of the variables ``c_...`` that stand for controls, whose own ``training`` has.

    All names of a group must differ, and to netCDF "/" and "." are places.
    """
    taken = set(TAKEN)

    def free(name: str) -> str:
        name = re.sub(r"/|^\.$", "_", name)
        while name in taken:
            name += "_"
        taken.add(name)
        return name

    return [free(name) for name in controls], [free(f"c_{name}") for name in controls]


def _on_cells(variables: dict, cells: dict, chains: dict, dim: str = "obs_id") -> xr.Dataset:
    return xr.Dataset({k: (("chain", "draw", dim), v) for k, v in variables.items()}, {**chains, **cells})


def _count(draws: np.ndarray) -> dict:
    return {"chain": np.arange(draws.shape[0]), "draw": np.arange(draws.shape[1])}


def _sites_dataset(posterior, sites, cells, obs, chains) -> xr.Dataset:
    """Sites, outputs at the observed cells, and traces of powers of the reference matrix."""
    variables: dict[str, Any] = {"model": (("chain", "draw", "obs_id"), cells)}
    for name, value in sites.items():
        dims = [f"{name}_dim_{i}" for i in range(value.ndim - 2)]
        if name == "floor":
            dims = ["output_name"]
        variables[name] = (("chain", "draw", *dims), value)
    flat = {k: np.asarray(v).reshape(-1, *v.shape[2:]) for k, v in sites.items()}
    invariant = jax.jit(jax.vmap(lambda s: gauge.traces(posterior.matrix_prior.assemble(s)[0])))(flat)
    variables["trace"] = (("chain", "draw", "power"), np.asarray(invariant).reshape(*cells.shape[:2], -1))
    # Only the index: ArviZ 1.x stacks all variables of this group, and other coordinates are not on all of them.
    coords = {**chains, "obs_id": obs["obs_id"], "power": [1, 2, 3]}
    if "floor" in sites:
        coords["output_name"] = list(posterior.data.output_names)
    return xr.Dataset(variables, coords)


def _log_priors(posterior: Posterior, sites: dict[str, np.ndarray], chains: dict) -> xr.Dataset:
    """What ArviZ's power-scaling of the prior needs: by site, so that the hyperprior alone can be scaled."""
    shape = next(iter(sites.values())).shape[:2]
    flat = {k: np.asarray(v).reshape(-1, *v.shape[2:]) for k, v in sites.items()}
    values = jax.jit(jax.vmap(posterior.log_priors))(flat)
    return xr.Dataset(
        {k: (("chain", "draw"), np.asarray(v).reshape(shape)) for k, v in values.items()}, chains
    )


def _prior_draws(posterior: Posterior, key: jax.Array, rows: np.ndarray, cols: np.ndarray):
    data = posterior.data
    k1, k2 = jax.random.split(key)
    drawn = prior_draws(posterior, k1, PRIOR_DRAWS)
    cells = outputs_of(posterior, drawn, data.controls)[:, :, rows, cols]
    sd = np.sqrt(floors_of(posterior, drawn)[:, :, cols] ** 2 + data.errors[rows, cols] ** 2)
    return drawn.sites, cells, cells + sd * np.asarray(jax.random.normal(k2, cells.shape))


def prediction_controls(tree: xr.DataTree) -> np.ndarray | None:
    """Controls (P, p) of the stored predictions, or None."""
    if "predictions_constant_data" not in tree.children:
        return None
    group, training = (tree.children[k].dataset for k in ("predictions_constant_data", "training"))
    n_outputs = training.sizes["output"]
    _, names = _names_in_groups([str(name) for name in training["control"].values])
    return np.stack([group[name].values[::n_outputs] for name in names], axis=1)

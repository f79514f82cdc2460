"""The report: one self-contained HTML page, and the summary that programs read."""

import base64
import io
import json
from importlib.metadata import version
from importlib.resources import files

import jinja2
import numpy as np
from matplotlib.figure import Figure

from bayes_pmm.bands import Bands
from bayes_pmm.fit import Fit, approximation_lines, sampler_of, time_taken
from bayes_pmm.inference.modes import median_floor
from bayes_pmm.plotting import plot_bands, plot_chains, plot_residuals
from bayes_pmm.scores import against

__all__ = ["render_report", "summary"]


def summary(fit: Fit, bands: Bands | None = None) -> dict:
    """What ``summary.json`` holds; None where a number does not exist, as those of predictions without bands."""
    d, info = fit.diagnosis, fit.draws.info
    names = fit.posterior.data.output_names
    sigma = dict.fromkeys(names)
    if fit.posterior.noise.floor:
        sigma = dict(zip(names, map(float, median_floor(fit.posterior, fit.draws, fit.weights)), strict=True))
    found = {
        "status": d.status,
        "reasons": list(d.reasons),
        "max_rhat": d.max_rhat,
        "min_ess": d.min_ess,
        "divergences": d.divergences,
        "pareto_k": info.get("pareto_k"),
        "against_exact": info.get("against_exact"),
        "sampler": info["sampler"],
        "dim": fit.posterior.pmm.dim,
        "chains": info["chains"],
        "draws": info["draws"],
        "seconds": info["seconds"],
        "sigma": sigma,
        "version": version("bayes_pmm"),
        "extrapolated": None if bands is None else int(bands.extrapolated.sum()),
        "doubtful": None if bands is None else int(bands.doubtful.sum()),
        "doubts": {} if bands is None else {k: int(v.sum()) for k, v in bands.doubts.items() if v.any()},
    }
    return {k: _known(v) for k, v in found.items()}


def _known(value: object) -> object:
    """The value itself, with None for numbers that JSON does not know."""
    if isinstance(value, dict):
        return {k: _known(v) for k, v in value.items()}
    return None if isinstance(value, float) and not np.isfinite(value) else value


SHOWN = 12
"""Controls of which the report shows the bands."""


def render_report(
    fit: Fit,
    bands: Bands | None = None,
    exact: np.ndarray | None = None,
    about: dict[str, str] | None = None,
) -> str:
    """HTML page with status, settings, pictures and convergence; nothing on it is fetched from elsewhere.

    Parameters
    ----------
    fit : Fit
    bands : Bands, optional
        For the picture and a short table.
    exact : array (N, Q), optional
        Exact values at the bands' controls.
    about : dict of str to str, optional
        What else is to be said of the run, such as the file of the data, its seed and its date.
    """
    pictures = []
    if bands is not None:
        pictures.append(("Bands", _png(plot_bands(fit, bands, exact))))
    pictures.append(("Training data against the fit", _png(plot_residuals(fit))))
    pictures.append(("Chains", _png(plot_chains(fit))))
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(files("bayes_pmm").joinpath("report.html.j2").read_text("utf-8"))
    posterior, data = fit.posterior, fit.posterior.data
    facts = summary(fit, bands)
    return template.render(
        facts=facts,
        diagnosis=fit.diagnosis,
        settings=(about or {})
        | {
            "controls": ", ".join(data.control_names),
            "outputs": ", ".join(
                f"{n} = {o}" for n, o in zip(data.output_names, posterior.pmm.outputs, strict=True)
            ),
            "rows, observed cells": f"{data.n_rows}, {data.n_observed}",
            "matrices": f"{posterior.matrix_prior.n_matrices} of size {posterior.pmm.dim}, {posterior.pmm.field}",
            "basis": str(posterior.pmm.basis),
            "prior": str(posterior.prior),
            "noise": str(posterior.noise),
            "sampler": fit.draws.info.get("choice", sampler_of(fit.draws.info)),
            "chains": _chains(fit),
            "bayes_pmm": facts["version"],
        },
        noise=_noise_table(fit, facts["sigma"]),
        table=None if bands is None else _bands_table(bands),
        info=fit.draws.info,
        approximation=approximation_lines(fit.draws.info),
        doubts=[] if bands is None else bands.doubt_lines,
        basins=fit.draws.info.get("basins", []),
        pictures=pictures,
        summary=json.dumps(facts, indent=2),
    )


def _chains(fit: Fit) -> str:
    """Numbers of chains and draws, and how long they took."""
    info = fit.draws.info
    warmup = f"{info['warmup']} warm-up draws and " if info.get("warmup") else ""
    return f"{info['chains']} with {warmup}{info['draws']} draws each, {time_taken(info)}"


def _noise_table(fit: Fit, floors: dict[str, float | None]) -> list[tuple[str, ...]]:
    """For each output its name, the spread of its data, the rms known error and the floor, as text."""
    data = fit.posterior.data
    number = lambda x: "none" if x is None or x == 0 else f"{x:.4g}"
    return [
        (name, number(np.nanstd(data.values[:, q])), number(data.rms_errors[q]), number(floors[name]))
        for q, name in enumerate(data.output_names)
    ]


def _bands_table(bands: Bands) -> dict:
    """Latent bands at some of the controls: header, rows of text, and how many controls there are."""
    level = bands.levels[-1]
    low, high = bands.interval(level)
    middle, sd = bands.quantile(0.5), bands.sd["latent"]
    N = len(bands.controls)
    chosen = np.unique(np.linspace(0, N - 1, min(N, SHOWN)).round().astype(int))
    rows = []
    for i in chosen:
        for q, name in enumerate(bands.output_names):
            numbers = (middle[i, q], low[i, q], high[i, q])
            rows.append(
                [
                    *(f"{c:.6g}" for c in bands.controls[i]),
                    name,
                    *(against(x, sd[i, q]) for x in numbers),
                    "outside the data" if bands.extrapolated[i, q] else "",
                    ", ".join(doubt for doubt, where in bands.doubts.items() if where[i, q]),
                ]
            )
    header = [*bands.control_names, "output", "median", f"{100 * level:g} % from", "to", "", "doubts"]
    return {"header": header, "rows": rows, "shown": len(chosen), "controls": N}


def png_bytes(figure: Figure) -> bytes:
    """A figure as PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    return buffer.getvalue()


def _png(figure: Figure) -> str:
    return base64.b64encode(png_bytes(figure)).decode()

"""The report: one self-contained HTML page, and the summary that programs read."""

import base64
import io
import json
import os
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

import jinja2
import numpy as np
from matplotlib.figure import Figure

from bayes_pmm.errors import InputError, not_written
from bayes_pmm.fit import Fit
from bayes_pmm.plotting import plot_bands, plot_chains, plot_residuals
from bayes_pmm.predict import Bands

__all__ = ["render_report", "summary", "write_new"]


def summary(fit: Fit) -> dict:
    """What ``summary.json`` holds; None where a number does not exist."""
    d, info = fit.diagnosis, fit.draws.info
    names = fit.posterior.data.output_names
    sigma = dict.fromkeys(names)
    if fit.posterior.noise.floor:
        floor = np.average(fit.draws.sites["floor"].mean(1), axis=0, weights=fit.weights)
        sigma = dict(zip(names, map(float, floor), strict=True))
    return {
        "status": d.status,
        "reasons": list(d.reasons),
        "max_rhat": d.max_rhat,
        "min_ess": d.min_ess,
        "divergences": d.divergences,
        "sampler": info["sampler"],
        "dim": fit.posterior.pmm.dim,
        "chains": info["chains"],
        "draws": info["draws"],
        "seconds": info["seconds"],
        "sigma": sigma,
        "version": version("bayes_pmm"),
    }


def render_report(fit: Fit, bands: Bands | None = None, exact: np.ndarray | None = None) -> str:
    """HTML page with status, settings, pictures and convergence; nothing on it is fetched from elsewhere."""
    pictures = []
    if bands is not None:
        pictures.append(("Bands", _png(plot_bands(fit, bands, exact))))
    pictures.append(("Training data against the fit", _png(plot_residuals(fit))))
    pictures.append(("Chains", _png(plot_chains(fit))))
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(files("bayes_pmm").joinpath("report.html.j2").read_text("utf-8"))
    posterior, data = fit.posterior, fit.posterior.data
    facts = summary(fit)
    return template.render(
        facts=facts,
        settings={
            "controls": ", ".join(data.control_names),
            "outputs": ", ".join(
                f"{n} = {o}" for n, o in zip(data.output_names, posterior.pmm.outputs, strict=True)
            ),
            "rows, observed cells": f"{data.n_rows}, {data.n_observed}",
            "matrices": f"{posterior.matrix_prior.n_matrices} of size {posterior.pmm.dim}, {posterior.pmm.field}",
            "basis": str(posterior.pmm.basis),
            "prior": str(posterior.prior),
            "noise": str(posterior.noise),
            "sampler": fit.draws.info.get("choice", facts["sampler"]),
        },
        info=fit.draws.info,
        doubts=[] if bands is None else bands.doubt_lines,
        basins=fit.draws.info.get("basins", []),
        pictures=pictures,
        summary=json.dumps(facts, indent=2),
    )


def write_new(path: Path, content: str | bytes) -> None:
    """Write a file that does not exist yet, whole or not at all.

    Raises
    ------
    InputError
        If it exists or cannot be written.
    BayesPMMError
        If the disk is full.
    """
    if path.exists():
        raise InputError(f"{path}: exists already; choose another name or move it away")
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise not_written(path, error) from error


def png_bytes(figure: Figure) -> bytes:
    """A figure as PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    return buffer.getvalue()


def _png(figure: Figure) -> str:
    return base64.b64encode(png_bytes(figure)).decode()

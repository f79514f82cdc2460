r"""Comparing models of the same data: scores, evidences, weights, and predictions averaged over models.

Leave-one-out cross-validation (LOO) scores *interpolation*: nearly every left-out datum has neighbours on both sides.
The dimension it prefers is the smallest that fits, and the bands of that dimension are too narrow outside the data. For
bands outside, take a generous dimension, or judge by leave-future-out, which predicts the outermost data from the rest.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from scipy.special import softmax

from bayes_pmm import validation
from bayes_pmm.bands import KINDS, LEVELS, Bands
from bayes_pmm.errors import BayesPMMError, InputError
from bayes_pmm.evidence import Evidence, log_evidence
from bayes_pmm.fit import Fit, as_fit
from bayes_pmm.inference import Method, as_method, method_of
from bayes_pmm.inference.modes import pseudo_bma_weights, stacking_weights
from bayes_pmm.inference.nested import NestedSampling
from bayes_pmm.loo import Loo, loo
from bayes_pmm.outputs import Output
from bayes_pmm.posterior import Posterior
from bayes_pmm.predict import combinations, summarised
from bayes_pmm.settings import as_key, as_whole, in_range

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["WEIGHTS", "Compared", "Comparison", "compare"]

WEIGHTS = ("stacking", "pseudo_bma", "future", "evidence", "equal")

Weights = str | Sequence[float] | np.ndarray | Mapping[str, float]
"""The name of weights, or a number for each model: in order, or by its name."""

NOTICEABLE = 0.01
"""A model with less weight is left out of averaged predictions, and its status does not count."""


@dataclass(frozen=True, eq=False)
class Compared:
    """One model with its scores.

    Parameters
    ----------
    name : str
    fit : Fit
    loo : Loo
    future : LeftOut or None
        Leave-future-out, if asked for.
    evidence : Evidence or None
        If asked for.
    missing : tuple of str
        Which of these were asked for and could not be had, and why.
    """

    name: str
    fit: Fit
    loo: Loo
    future: validation.LeftOut | None = None
    evidence: Evidence | None = None
    missing: tuple[str, ...] = ()

    def __repr__(self):
        return f"Compared({self.name!r}, {self.fit.status}, elpd {self.loo.elpd:.1f} ± {self.loo.se:.1f})"

    @property
    def parameters(self) -> int:
        """Number of sampled parameters."""
        return self.fit.draws.n_unknowns


@dataclass(frozen=True, eq=False)
class Comparison:
    """Models of the same data side by side.

    LOO scores interpolation. Choosing the dimension by it, or averaging with ``stacking`` weights, makes bands outside
    the data overconfident: it stops at the smallest dimension that fits, and extrapolation needs more.

    Parameters
    ----------
    models : tuple of Compared
        In the order in which they were given.
    weights : dict of str to array (K,)
        ``stacking`` by pointwise LOO densities, ``pseudo_bma`` (pseudo-BMA+, by LOO and a Bayesian bootstrap of the
        data), and where there are the scores for it ``future`` (stacking by leave-future-out densities) and
        ``evidence`` (posterior probabilities of the models, equal before the data).
    """

    models: tuple[Compared, ...]
    weights: dict[str, np.ndarray] = field(default_factory=dict)

    def to_dataframe(self) -> "pd.DataFrame":
        """One row per model, as a pandas DataFrame.

        ``loo`` and ``future`` are sums of log predictive densities, larger is better, in log of 1/unit of the data;
        ``loo_behind`` is how far a model is behind the best one, with the standard error of this difference.
        """
        import pandas as pd

        best = max(self.models, key=lambda m: m.loo.elpd).loo.log_density
        rows = []
        for i, m in enumerate(self.models):
            pmm, behind = m.fit.posterior.pmm, best - m.loo.log_density
            row = {
                "name": m.name,
                "dim": pmm.dim,
                "field": pmm.field,
                "basis": str(pmm.basis),
                "outputs": ", ".join(map(str, pmm.outputs)),
                "noise": _noise(m.fit),
                "parameters": m.parameters,
                "status": m.fit.status,
                "loo": m.loo.elpd,
                "loo_se": m.loo.se,
                "loo_behind": float(behind.sum()),
                "loo_behind_se": float(np.sqrt(len(behind)) * behind.std(ddof=1)),
                "p_loo": m.loo.p_loo,
                "pareto_k_high": len(m.loo.above),
            }
            if m.future is not None:
                row |= {"future": m.future.elpd, "future_se": m.future.se, "future_status": m.future.status}
            if m.evidence is not None:
                row |= {"log_evidence": m.evidence.log_z, "log_evidence_se": m.evidence.se}
                row |= {"evidence_status": m.evidence.status}
            row |= {f"weight_{k}": float(w[i]) for k, w in self.weights.items()}
            rows.append(row | {"settings": _settings(m.fit.posterior)})
        return pd.DataFrame(rows)

    @property
    def notes(self) -> tuple[str, ...]:
        """What one has to know to read the table, one line each."""
        found = [
            "loo scores interpolation: a dimension chosen by it has overconfident bands outside the data"
        ]
        for m in self.models:
            found += [f"{m.name}: {m.fit.status}: {reason}" for reason in m.fit.reasons]
            found += [f"{m.name}: {text}" for text in m.missing]
            if "log_weight" in m.fit.draws.stats:
                found.append(
                    f"{m.name}: loo weighs the approximation's draws as the posterior would; its bands, and what is"
                    " left out, are those of the approximation"
                )
            if m.fit.defect is not None:
                found.append(f"{m.name}: its scores are those of the matrices, without the learned defect")
            if len(m.loo.above):
                found.append(
                    f"{m.name}: loo of {len(m.loo.above)} of {len(m.loo.row)} data has Pareto k above"
                    f" {m.loo.limit:.2f} and is not to be trusted; in Python bp.compare(fits, key=0, refit='auto') fits"
                    " again without them"
                )
            found += [f"{m.name}: loo without {r.name}: {r.status}" for r in m.loo.refits if r.status != "ok"]
            if m.future is not None:
                found += [
                    f"{m.name}: left-out {r.name}: {r.status}" for r in m.future.refits if r.status != "ok"
                ]
                found += [f"{m.name}: not left out: {text}" for text in m.future.skipped]
            if m.evidence is not None:
                found += [f"{m.name}: evidence: {reason}" for reason in m.evidence.reasons]
        return tuple(found)

    def __str__(self):
        table = self.to_dataframe()
        joined = lambda a, b, digits=1: [
            f"{x:.{digits}f} ± {s:.{digits}f}" for x, s in zip(table[a], table[b], strict=True)
        ]
        shown = table[["name", "dim", "field", "basis", "outputs", "noise", "parameters", "status"]].copy()
        if table["settings"].any():
            shown["settings"] = table["settings"]
        shown["loo"] = joined("loo", "loo_se")
        shown["behind"] = joined("loo_behind", "loo_behind_se")
        for name, digits in {"future": 1, "log_evidence": 2}.items():
            if name in table:
                shown[name] = joined(name, f"{name}_se", digits)
        for name in self.weights:
            shown[f"w:{name}"] = [f"{w:.2f}" for w in table[f"weight_{name}"]]
        return "\n".join([shown.to_string(index=False), *(f"  - {note}" for note in self.notes)])

    __repr__ = __str__

    def predict(
        self,
        controls: Any,
        weights: Weights | None = None,
        *,
        outputs: str | Output | Iterable[str | Output] | None = None,
        key: jax.Array | int | np.integer | None = None,
        levels: float | Sequence[float] | np.ndarray = LEVELS,
    ) -> Bands:
        """Bands of the mixture of all models.

        Averaging by LOO does not make bands outside the data honest; see the class.

        Parameters
        ----------
        controls : array (N, p)
        weights : str, array (K,) or mapping of names to numbers, optional
            One of :attr:`weights`, ``equal``, or numbers of one's own; ``future`` if not given and there, else
            ``stacking``.
        outputs : str or sequence of str, optional
            Some of the outputs, and lines between fitted ones, as for :meth:`~bayes_pmm.fit.Fit.predict`.
        key : PRNG key or int, optional
            For floor and noise; each fit's own if not given.
        levels : float or sequence of float
            Probabilities of the central intervals.

        Returns
        -------
        Bands
            Its status is the worst among the models with a weight of 1 % at least, and suspect at best where the scores
            that the weights come from are not to be trusted. A doubt of any of these models about a point is one of the
            average; the others are left out.

        Raises
        ------
        InputError
            For unknown or unusable weights, bad controls, outputs that do not follow from the fitted ones, or where
            weights are to be chosen and a model has no leave-future-out while others have.
        """
        w, doubted = self._weights(weights), self._doubted(weights)
        if outputs is not None and not isinstance(outputs, str | Output):
            outputs = tuple(outputs)
        key = None if key is None else as_key(key)
        # Of more than a hundred models none may reach that.
        least = min(NOTICEABLE, w.max())
        members = [(m, x) for m, x in zip(self.models, w, strict=True) if x >= least]
        # What gives a line depends on how a model reads the columns. Mistakes come before the work.
        wanted = [None if outputs is None else combinations(m.fit.posterior, outputs)[1] for m, _ in members]
        used: list[Bands] = []
        samples: dict[str, list[np.ndarray]] = {kind: [] for kind in KINDS}
        for i, ((m, _), coefficients) in enumerate(zip(members, wanted, strict=True)):
            own = None if key is None else jax.random.fold_in(key, i)
            used.append(m.fit.predict(controls, outputs=outputs, key=own))
            for kind in KINDS:
                drawn = m.fit.sample(used[-1].controls, kind, key=own, joint=False)
                samples[kind].append(drawn if coefficients is None else drawn @ coefficients.T)
        # One table of draws needs chains of one length: the longer ones are thinned.
        length = min(s.shape[1] for s in samples[KINDS[0]])
        joined = {
            kind: np.concatenate(
                [s[:, np.linspace(0, s.shape[1] - 1, length).round().astype(int)] for s in parts]
            )
            for kind, parts in samples.items()
        }
        chains = np.concatenate([x * m.fit.weights / m.fit.weights.sum() for m, x in members])
        statuses = [b.status for b in used] + ["suspect"] * len(doubted)
        status = max(statuses, key=("ok", "suspect", "failed").index)
        of_models = [f"{m.name}: {r}" for (m, _), b in zip(members, used, strict=True) for r in b.reasons]
        reasons = tuple(of_models + doubted)
        doubts = {
            name: np.any([b.doubts[name] for b in used if name in b.doubts], axis=0)
            for name in dict.fromkeys(name for b in used for name in b.doubts)
        }
        return summarised(
            joined,
            chains * len(chains) / chains.sum(),
            levels,
            controls=used[0].controls,
            control_names=used[0].control_names,
            output_names=used[0].output_names,
            # By its basis a model may know a point inside that is outside for another.
            extrapolated=np.any([b.extrapolated for b in used], axis=0),
            status=status,
            reasons=reasons,
            doubts=doubts,
        )

    def sample(
        self,
        controls: Any,
        weights: Weights | None = None,
        *,
        key: jax.Array | int | np.integer,
        draws: int = 4000,
        kind: str = "latent",
    ) -> np.ndarray:
        """Independent joint draws (draws, N, Q) of the mixture of all models, for what depends on several outputs.

        Parameters
        ----------
        controls : array (N, p)
        weights : optional
            As for :meth:`predict`.
        key : PRNG key or int
        draws : int
            Each is one of a model that is chosen by its weight; all count alike.
        kind : {"latent", "predictive", "model"}

        Raises
        ------
        InputError
            As for :meth:`predict`, and for an unknown kind or no draws.
        """
        w = self._weights(weights)
        if as_whole("draws", draws) < 1:
            raise InputError(f"draws = {draws}: ask for at least one")
        key_model, key_draws = jax.random.split(as_key(key))
        which = np.asarray(jax.random.choice(key_model, len(w), (draws,), p=w))
        result = None
        for i in np.unique(which):
            fit, own = self.models[i].fit, which == i
            k_noise, k_chosen = jax.random.split(jax.random.fold_in(key_draws, i))
            drawn = fit.sample(controls, kind, key=k_noise)
            share = np.repeat(fit.weights, drawn.shape[1])
            flat = drawn.reshape(-1, *drawn.shape[2:])
            chosen = jax.random.choice(k_chosen, len(flat), (int(own.sum()),), p=share / share.sum())
            result = np.empty((draws, *flat.shape[1:])) if result is None else result
            result[own] = flat[np.asarray(chosen)]
        assert result is not None  # there is at least one draw
        return result

    def _default(self, weights: Weights | None) -> Weights:
        if weights is not None:
            return weights
        if "future" not in self.weights and any(m.future is not None for m in self.models):
            raise InputError(
                "the leave-future-out of a model is missing, so that there are no weights by it; say by which to"
                " average, such as weights='equal' or 'stacking'"
            )
        return "future" if "future" in self.weights else "stacking"

    def _doubted(self, weights: Weights | None) -> list[str]:
        """What speaks against the scores that weights of this name come from, model by model."""
        weights, found = self._default(weights), []
        name = weights.replace("-", "_") if isinstance(weights, str) else "the user's own"
        for m in self.models:
            if name in ("stacking", "pseudo_bma") and m.loo and len(m.loo.above):
                found.append(f"weights: loo of {len(m.loo.above)} data of {m.name} is not to be trusted")
            if name == "future" and m.future and m.future.status != "ok":
                found.append(f"weights: a refit of {m.name} is {m.future.status}")
            if name == "evidence" and m.evidence and m.evidence.status != "ok":
                found.append(f"weights: the evidence of {m.name} is {m.evidence.status}")
        return found

    def _weights(self, weights: Weights | None) -> np.ndarray:
        weights = self._default(weights)
        if isinstance(weights, str):
            weights = weights.replace("-", "_")  # as on the command line
            if weights == "equal":
                return np.full(len(self.models), 1 / len(self.models))
            if weights not in self.weights:
                known = ", ".join([*self.weights, "equal"])
                raise InputError(f"there are no weights '{weights}'; use one of {known}")
            return self.weights[weights]
        if isinstance(weights, Mapping):
            names = [m.name for m in self.models]
            if unknown := [name for name in weights if name not in names]:
                raise InputError(f"weights: there is no model '{unknown[0]}'; there are {', '.join(names)}")
            weights = [weights.get(name, 0.0) for name in names]
        w = np.asarray(weights, float)
        if w.shape != (len(self.models),) or not np.isfinite(w).all() or w.min() < 0 or w.sum() == 0:
            raise InputError(
                f"weights of shape {w.shape}: give {len(self.models)} numbers, none negative, not all 0"
            )
        return w / w.sum()


def compare(
    fits: Mapping[str, Fit] | Sequence[Fit],
    *,
    key: jax.Array | int | np.integer,
    evidence: bool = False,
    check: bool | NestedSampling = False,
    leave_future_out: bool = False,
    method: Method | str | None = None,
    refit: Method | str | None = None,
    share: float = 0.3,
) -> Comparison:
    """Compare fits of the same data.

    The LOO columns score interpolation and nothing else. **Choosing the dimension by LOO makes bands outside the data
    overconfident**; ``leave_future_out=True`` asks the question that extrapolation asks.

    Parameters
    ----------
    fits : mapping of name to Fit, or sequence of Fit
        Two at least. Without names they are called by dimension, field and basis.
    key : PRNG key or int
    evidence : bool
        Estimate log evidences (seconds to a minute each); see :func:`~bayes_pmm.evidence.log_evidence`.
    check : bool or NestedSampling
        Check them by nested sampling (minutes each).
    leave_future_out : bool
        Refit each model without its outermost rows, at every end of every control.
    method : Method or str, optional
        For these refits; that of each fit, with its settings, if not given.
    refit : Method or str, optional
        For LOO of the data whose importance weights cannot be trusted; they are only reported if not given.
    share : float
        Share of the rows that leave-future-out leaves out at each end.

    Returns
    -------
    Comparison
        An evidence or leave-future-out that could not be had of one model is missing in its row, and the notes say why.

    Raises
    ------
    InputError
        If there are fewer than two fits, their data differ, a fit has too few draws for LOO, or it does not say by
        which method it is to be refitted.

    References
    ----------
    Yao, Vehtari, Simpson, Gelman, Using stacking to average Bayesian predictive distributions, Bayesian Analysis 13,
    917 (2018).
    """
    fits = [fits] if isinstance(fits, Fit) else fits
    named = dict(fits) if isinstance(fits, Mapping) else _names(list(fits))
    _check_data(named)
    key = as_key(key)
    k_bootstrap, *keys = jax.random.split(key, 1 + len(named))
    # Mistakes come before the work.
    given, again = (None if m is None else as_method(m) for m in (method, refit))
    if not (in_range(share) and share < 1) or not isinstance(check, bool | NestedSampling):
        raise InputError(
            f"share = {share!r}, check = {check!r}: use a share between 0 and 1, and True, False or NestedSampling(...)"
        )
    own: dict[str, Method] = {}
    if leave_future_out:
        own = {name: method_of(fit.draws.info) if given is None else given for name, fit in named.items()}
    split = {name: jax.random.split(k, 3) for name, k in zip(named, keys, strict=True)}
    # What every model must have comes first, so that hours of refits do not end in its error.
    scored = {name: loo(fit, refit=again, key=split[name][0]) for name, fit in named.items()}
    models = []
    for name, fit in named.items():
        _, k_future, k_evidence = split[name]
        future = found = None
        missing = []
        if evidence or check:
            try:
                found = log_evidence(fit, key=k_evidence, check=check)
            except BayesPMMError as error:
                missing.append(f"no evidence: {error}")
        if leave_future_out:
            try:
                future = validation.leave_future_out(fit.posterior, own[name], key=k_future, share=share)
            except BayesPMMError as error:
                missing.append(f"no leave-future-out: {error}")
        models.append(Compared(name, fit, scored[name], future, found, tuple(missing)))
    return Comparison(tuple(models), _all_weights(models, k_bootstrap))


def _names(fits: list[Fit]) -> dict[str, Fit]:
    """Fits under names made from what tells them apart; a number is added where that is not enough."""
    named: dict[str, Fit] = {}
    for fit in fits:
        pmm = as_fit(fit).posterior.pmm
        name = f"dim {pmm.dim} {pmm.field} {pmm.basis}"
        count = sum(other == name or other.startswith(f"{name} #") for other in named)
        named[f"{name} #{count + 1}" if count else name] = fit
    return named


def _check_data(named: Mapping[str, Fit]) -> None:
    if len(named) < 2:
        raise InputError(f"{len(named)} fit{'s' * (len(named) != 1)}: a comparison needs two at least")
    for fit in named.values():
        as_fit(fit)
    (first, fit), *others = named.items()
    data = fit.posterior.data
    for name, other in others:
        theirs = other.posterior.data
        for what, same in {
            "names of controls": data.control_names == theirs.control_names,
            "names of outputs": data.output_names == theirs.output_names,
            "controls": np.array_equal(data.controls, theirs.controls),
            "values": np.array_equal(data.values, theirs.values, equal_nan=True),
            "errors": np.array_equal(data.errors, theirs.errors, equal_nan=True),
        }.items():
            if not same:
                raise InputError(
                    f"{first} and {name} have other {what}: scores can be compared for the same data only; fit both to"
                    " the same table"
                )


def _all_weights(models: list[Compared], key: jax.Array) -> dict[str, np.ndarray]:
    log_density = np.stack([m.loo.log_density for m in models], axis=1)
    weights = {"stacking": stacking_weights(log_density), "pseudo_bma": pseudo_bma_weights(log_density, key)}
    futures = [m.future.pointwise.ravel() for m in models if m.future is not None]
    if len(futures) == len(models):
        each = np.stack(futures, axis=1)
        # A refit without draws, or an end that one model could not leave out, is no information on the others.
        each = each[np.isfinite(each).all(axis=1)]
        if len(each):
            weights["future"] = stacking_weights(each)
    evidences = [m.evidence.log_z for m in models if m.evidence is not None]
    if len(evidences) == len(models):
        weights["evidence"] = softmax(evidences)
    return weights


def _settings(posterior: Posterior) -> str:
    """What of prior, noise and widening is not as by default, apart from what other columns say."""
    found = []
    for part in (posterior.prior, posterior.noise, posterior.widening):
        for f in fields(part):
            value = getattr(part, f.name)
            if value != f.default and (part, f.name) != (posterior.noise, "floor"):
                found.append(f"{f.name}={value}")
    return ", ".join(found)


def _noise(fit: Fit) -> str:
    """What the likelihood's width is made of."""
    known = bool(np.nansum(fit.posterior.data.errors) > 0)
    parts = (
        ["known"] * known + ["learned"] * fit.posterior.noise.floor + ["defect"] * (fit.defect is not None)
    )
    return " + ".join(parts)

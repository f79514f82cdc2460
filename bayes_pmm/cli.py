"""The command line: options in, a run's folder out."""

import contextlib
import csv
import logging
import os
import sys
import warnings
from pathlib import Path

import click
import jax
import numpy as np

from bayes_pmm import problems
from bayes_pmm.bands import Bands
from bayes_pmm.basis import parse_basis
from bayes_pmm.compare import WEIGHTS
from bayes_pmm.compare import compare as compare_fits
from bayes_pmm.conditions import parse_number
from bayes_pmm.errors import BayesPMMError, InputError, UnfinishedError, disk_is_full
from bayes_pmm.files import write_new
from bayes_pmm.fit import Fit, load
from bayes_pmm.grids import controls_from_at
from bayes_pmm.hermitian import FIELDS
from bayes_pmm.inference import SAMPLERS, Auto, method_by_name
from bayes_pmm.inference.variational import GUIDES
from bayes_pmm.model import PMM
from bayes_pmm.noise import Noise
from bayes_pmm.outputs import Level, Output, output_named, parse_output
from bayes_pmm.posterior import Posterior
from bayes_pmm.problems.listing import families_table, hamiltonians_table, task_csv, task_text
from bayes_pmm.report import render_report
from bayes_pmm.runs import check_folder, digests, execute, finished_summary, read_about, read_rest
from bayes_pmm.tables import read_dataset
from bayes_pmm.widening import Widening

__all__ = ["main"]

INTERRUPTED = 130
LONG = 2000
"""Draws of all chains from which on a fit is said to take minutes."""
LEVELS_HELP = "Probabilities of the intervals in bands.csv and in the picture, separated by commas."

SEED = click.IntRange(-(2**63), 2**63 - 1)


def main(arguments: list[str] | None = None) -> None:
    """Entry point: run the command line and exit with its code.

    0 done, 1 the computation failed, 2 bad input or usage (one line on standard error), 3 with ``--strict`` when
    the status is not ok, 130 interrupted.
    """
    code = _run(arguments)
    if code == INTERRUPTED and arguments is None:
        # Threads may still be inside compiled code, which the interpreter's own end would tear down with an abort.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _run(arguments: list[str] | None) -> int:
    given = sys.argv[1:] if arguments is None else arguments
    command = next((a for a in given if not str(a).startswith("-")), None)
    goes_on = "the same command with --resume goes on from the last checkpoint"
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _note
            return cli.main(given or ["--help"], prog_name="bayes-pmm", standalone_mode=False) or 0
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.UsageError as error:
        help_hint = f"; see '{error.ctx.command_path} --help'" if error.ctx else ""
        return _complain(f"{error.format_message().removesuffix('.')}{help_hint}", 2)
    except InputError as error:
        return _complain(str(error), 2)
    except UnfinishedError as error:
        return _complain(f"{error}" + (f"; {goes_on}" if command == "fit" else ""), 1)
    except BayesPMMError as error:
        return _complain(str(error), 1)
    except (click.Abort, KeyboardInterrupt):
        return _complain("interrupted" + (f"; {goes_on}" if command == "fit" else ""), INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output went away (for example `| head`): nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        # Of a path that cannot even be looked at: too long a name, a folder that is not ours to read.
        where = "" if error.filename is None else f"{error.filename}: "
        if disk_is_full(error):
            return _complain(f"{where}the disk is full; make room and try again", 1)
        return _complain(f"{where}{error.strerror or error}; give another path", 2)
    except MemoryError:
        return _complain("out of memory; use a smaller --dim, fewer --draws or fewer controls of --at", 1)


def _note(message: Warning | str, *_, **__) -> None:
    """A warning as one line."""
    click.echo("bayes-pmm: note: " + " ".join(str(message).split()), err=True)


def _complain(message: str, code: int) -> int:
    click.echo("bayes-pmm: " + " ".join(message.split()), err=True)
    return code


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="bayes_pmm", prog_name="bayes-pmm")
@click.option("-v", "--verbose", is_flag=True, help="Log what is being done.")
def cli(verbose: bool) -> None:
    """Bayesian parametric matrix models: from a table of levels to a posterior band."""
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING, format="%(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("jax").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", category=FutureWarning, module="arviz")
    # Who writes E2=E1 means it, and a bare column named like another level is refused.
    warnings.filterwarnings("ignore", message="column .* is fitted as .*, as the model says")
    jax.config.update("jax_enable_x64", True)
    cache = (
        os.environ.get("BAYES_PMM_CACHE") or Path(click.get_app_dir("bayes_pmm", force_posix=True)) / "jax"
    )
    with contextlib.suppress(OSError):
        Path(cache).mkdir(parents=True, exist_ok=True)
        jax.config.update("jax_compilation_cache_dir", str(cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


@cli.command()
@click.option("--out", type=click.Path(path_type=Path), help="Folder to make; a new name if not given.")
@click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    default=1,
    show_default=True,
    help="Of the noise and of the sampler.",
)
def demo(out: Path | None, seed: int) -> int:
    """Fit an anharmonic oscillator on 0 <= g <= 1 and compare the bands beyond with the exact levels."""
    if out is None:
        out = next(p for i in range(1, 10_000) if not (p := Path(f"bayes-pmm-demo-{i}")).exists())
    problem = problems.get("oscillator")
    data = problem.dataset(noise=1e-2, seed=seed)
    posterior = Posterior(data, PMM(problem.outputs.values(), dim=4))
    controls = np.linspace(0, 3, 61)[:, None]
    method = Auto(warmup=300, draws=1000)
    options = {"command": "demo", "seed": seed, "method": repr(method)}
    check_folder(out, options, resume=None)
    click.echo(
        f"{problem.summary}\n{data.n_rows} values of g, levels E0 and E1 with 1 % noise; dim 4; sampling ..."
    )
    exact = problem.exact(controls)
    shown = [int(np.argmin(np.abs(controls[:, 0] - g))) for g in problem.outside[:, 0]]
    done, bands = execute(
        posterior, method, seed, out, options, controls, exact=exact, about={"problem": problem.summary}
    )
    assert bands is not None  # controls were given
    click.echo(f"\n{'g':>6} {'output':>6} {'q05':>9} {'q50':>9} {'q95':>9} {'exact':>9}")
    inside = 0
    for i in shown:
        for q, name in enumerate(data.output_names):
            lo, mid, hi = bands.quantiles["latent"][[0, 2, 4], i, q]
            hit = lo <= exact[i, q] <= hi
            inside += hit
            mark = "" if hit else "  outside the band"
            click.echo(
                f"{controls[i, 0]:6.2f} {name:>6} {lo:9.4f} {mid:9.4f} {hi:9.4f} {exact[i, q]:9.4f}{mark}"
            )
    total = len(shown) * data.n_outputs
    click.echo(f"\n{inside} of {total} exact values outside the data lie inside the 90 % latent band")
    return _finish(done, bands, out, strict=False)


@cli.command()
@click.argument("table", metavar="DATA.csv", type=click.Path(path_type=Path))
@click.option("--controls", required=True, help="Control columns, separated by commas.")
@click.option(
    "--outputs",
    required=True,
    help="COLUMN or COLUMN=EXPR, separated by commas; EXPR as E2, E[-1], "
    "E1-E0, <0|A|0> or |<0|A|1>|^2. The i-th column without EXPR is level i.",
)
@click.option("--errors", help="Error columns in the order of the outputs, '-' for none.")
@click.option(
    "--long",
    "long_",
    metavar="WHICH:VALUE",
    help="Long table: the column that names the output, and its value.",
)
@click.option("--where", help='Rows to train on, for example "g<=1 and h>0".')
@click.option(
    "--dim",
    type=int,
    help="Dimension of the matrices; default: what the outputs need, and 3 to 5 more, by the number of data.",
)
@click.option("--field", type=click.Choice(FIELDS), default="real", show_default=True)
@click.option(
    "--basis", default="affine", show_default=True, help="affine, poly:D, fourier:K:PERIOD or inverse:K."
)
@click.option(
    "--floor",
    type=float,
    help="Scale of the learned noise floor in units of the output's spread; 0: no floor.",
)
@click.option(
    "--defect",
    is_flag=True,
    help="Learn a defect from two more refits per control, and widen the bands outside the data by it.",
)
@click.option(
    "--widening",
    type=float,
    default=Widening().rate,
    show_default=True,
    help="How much bands are stretched at one range's distance from the data; 0 for an exact model.",
)
@click.option("--sampler", type=click.Choice(SAMPLERS), default="auto", show_default=True)
@click.option("--guide", type=click.Choice(list(GUIDES)), help="Of the sampler variational; full by default.")
@click.option(
    "--exact",
    is_flag=True,
    help="With variational or laplace: run auto as well, and say how the approximation differs from it.",
)
@click.option("--chains", default=4, show_default=True)
@click.option(
    "--warmup",
    type=int,
    help="Warm-up draws per chain; by default 500 for the manifold sampler, 1000 for NUTS.",
)
@click.option(
    "--draws",
    type=click.IntRange(max=1_000_000),
    default=1000,
    show_default=True,
    help="Per chain, after the warm-up.",
)
@click.option(
    "--at", help="Prediction controls: g=0:3:61, a CSV file, or 'rest' for the rows that --where left out."
)
@click.option("--levels", default="0.5,0.9", show_default=True, help=LEVELS_HELP)
@click.option("--seed", type=SEED, default=0, show_default=True)
@click.option("--strict", is_flag=True, help="Exit with 3 unless the status is ok.")
@click.option("--resume", is_flag=True, help="Go on with an interrupted run.")
@click.option("--out", required=True, metavar="RUN", type=click.Path(path_type=Path), help="Folder to make.")
def fit(table, controls, outputs, errors, long_, where, dim, field, basis, floor, defect, widening, sampler, guide,
        exact, chains, warmup, draws, at, levels, seed, strict, resume, out) -> int:  # fmt: skip
    """Fit a table of levels and predict bands."""
    names, expressions = parse_outputs_option(outputs)
    control_names = _split(controls, "--controls")
    levels = _levels(levels)
    pmm = PMM(expressions, dim, parse_basis(basis), field)
    reference = method_by_name("auto", chains, warmup, draws) if exact else None
    # The exact draws are what needs a warm-up then.
    method = method_by_name(sampler, chains, None if exact else warmup, draws, guide, reference)
    noise = Noise() if floor is None else Noise(floor=False) if floor == 0 else Noise(floor_scale=floor)
    data, rest = read_dataset(
        table, control_names, names, None if errors is None else _errors(errors), where, _long(long_)
    )
    new = None if at is None else controls_from_at(at, control_names, rest)
    posterior = Posterior(data, pmm, noise=noise, widening=Widening(widening))
    pmm = posterior.pmm
    options = {
        **digests(data, new),
        "outputs": [str(o) for o in expressions],
        "dim": pmm.dim,
        "field": field,
        "basis": basis,
        "levels": list(levels),
        "noise": repr(noise),
        "method": repr(method),
        "seed": seed,
        "defect": defect or None,
        "prior": repr(posterior.prior),
        "widening": widening,
    }
    if check_folder(out, options, resume) and (facts := finished_summary(out)) is not None:
        doubtful = facts.get("doubtful")
        doubts = (
            f", {doubtful} of {facts['extrapolated']} extrapolated predictions doubtful" if doubtful else ""
        )
        click.echo(f"{out}: finished before, status {facts['status']}{doubts}; nothing to do")
        return 3 if strict and facts["status"] != "ok" else 0
    columns = ", ".join(f"{n}={o}" for n, o in zip(names, expressions, strict=True))
    click.echo(
        f"{data.n_rows} rows, {data.n_observed} data, outputs {columns}; dim {pmm.dim} {field}, basis {basis}"
    )
    long_run = "; minutes, more with data and dim (a quick look: --chains 2 --draws 300)"
    approximate = sampler in ("laplace", "variational") and not exact
    click.echo(
        f"{chains} chains x {draws} draws" + (long_run if chains * draws >= LONG and not approximate else "")
    )
    if field == "complex" and len(control_names) == 1 and not pmm.operators and basis == "affine":
        click.echo(
            "note: with levels only and one affine control a complex field changes the prior, not the curves that the"
            " model can follow"
        )
    about = {"data file": str(table), "where": "every row" if where is None else where}
    done, bands = execute(
        posterior, method, seed, out, options, new, rest, defect=defect, levels=levels, about=about
    )
    return _finish(done, bands, out, strict)


@cli.command()
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--at", required=True, help="Prediction controls: g=0:3:61, a CSV file, or 'rest'.")
@click.option(
    "--out", required=True, metavar="bands.csv", type=click.Path(path_type=Path), help="File to make."
)
@click.option(
    "--outputs", help="Some outputs, and lines between fitted levels, such as E1-E0; all if not given."
)
@click.option("--levels", default="0.5,0.9", show_default=True, help=LEVELS_HELP)
@click.option("--strict", is_flag=True, help="Exit with 3 unless the status is ok at these controls.")
def predict(run: Path, at: str, out: Path, outputs: str | None, levels: str, strict: bool) -> int:
    """Predict bands at new controls from a finished run."""
    probabilities = _levels(levels)
    wanted = None if outputs is None else _split(outputs, "--outputs")
    _check_new(out)
    done = load(run)
    rest = read_rest(run) if at == "rest" else None
    new = controls_from_at(at, done.posterior.data.control_names, rest)
    bands = done.predict(new, outputs=wanted, levels=probabilities)
    bands.to_csv(out)
    _say_status(bands.status, bands.reasons)
    _say_doubts(bands)
    click.echo(f"bands at {len(new)} controls in {out}")
    return 3 if strict and bands.status != "ok" else 0


@cli.command()
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), help="HTML file to make; RUN/report.html if not given."
)
@click.option("--strict", is_flag=True, help="Exit with 3 unless the status is ok.")
def report(run: Path, out: Path | None, strict: bool) -> int:
    """Print what a finished run says about itself, and write its report where there is none."""
    done = load(run)
    click.echo(str(done))
    bands = _shown(done)
    _say_doubts(bands)
    target = out or (run / "report.html" if run.is_dir() else run.with_suffix(".html"))
    if out is None and target.exists():
        click.echo(f"report: {target}")
    else:
        write_new(target, render_report(done, bands, about=read_about(run)))
        click.echo(f"report written: {target}")
    return 3 if strict and done.status != "ok" else 0


@cli.command()
@click.argument("task", required=False)
@click.option("--family", help="List the Hamiltonians of this family.")
@click.option("--out", metavar="FILE.csv", type=click.Path(path_type=Path), help="Table of TASK to make.")
def zoo(task: str | None, family: str | None, out: Path | None) -> int:
    """List the problems with exact answers, or write one as a table.

    TASK is FAMILY/HAMILTONIAN/NOISE or FAMILY/HAMILTONIAN/NOISE/POINTS, for example ising/3/1e-2/10.
    """
    if task is None:
        if out is not None:
            raise InputError(
                "zoo: --out needs a task; name one, for example 'zoo ising/3/1e-2 --out ising.csv'"
            )
        click.echo(families_table() if family is None else hamiltonians_table(family))
        return 0
    if family is not None:
        raise InputError("zoo: a task and --family are given; give one of them")
    found = problems.task(task)
    click.echo(task_text(found))
    if out is not None:
        write_new(out, task_csv(found))
        click.echo(f"table written: {out}")
    return 0


@cli.command()
@click.argument("runs", metavar="RUN RUN ...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--evidence", is_flag=True, help="Estimate log evidences.")
@click.option("--check", is_flag=True, help="Check them by nested sampling; minutes for each run.")
@click.option(
    "--leave-future-out", is_flag=True, help="Refit without the outermost rows; as long as fits take."
)
@click.option("--csv", "csv_", type=click.Path(path_type=Path), help="File to make, with the whole table.")
@click.option("--at", help="Average predictions at these controls: g=0:3:61, a CSV file, or 'rest'.")
@click.option("--out", metavar="bands.csv", type=click.Path(path_type=Path), help="File to make with --at.")
@click.option(
    "--weights",
    type=click.Choice([w.replace("_", "-") for w in WEIGHTS]),
    help="For --at; by default 'future' with --leave-future-out, else 'stacking'.",
)
@click.option("--levels", default="0.5,0.9", show_default=True, help=LEVELS_HELP)
@click.option("--seed", type=SEED, default=0, show_default=True)
@click.option(
    "--strict", is_flag=True, help="Exit with 3 unless the status of all, the average included, is ok."
)
def compare(runs, evidence, check, leave_future_out, csv_, at, out, weights, levels, seed, strict) -> int:
    """Compare finished runs on the same data, and average their predictions."""
    levels = _levels(levels)
    if len(set(runs)) < len(runs):
        raise InputError("a run is given twice; name each run once")
    if (at is None) != (out is None):
        raise InputError("--at and --out belong together: where to predict, and the file to make")
    if weights is not None and at is None:
        raise InputError("--weights is for averaged predictions; add --at and --out, or leave it out")
    weights = None if weights is None else weights.replace("-", "_")
    needed = {
        "future": ("--leave-future-out", leave_future_out),
        "evidence": ("--evidence", evidence or check),
    }
    if weights in needed and not needed[weights][1]:
        raise InputError(f"--weights {weights} needs {needed[weights][0]}")
    if csv_ is not None and csv_ == out:
        raise InputError(f"{out}: is given for --csv and for --out; choose another name for one of them")
    for path in (csv_, out):
        _check_new(path)
    fits = {str(run): load(run) for run in runs}
    first = fits[str(runs[0])]
    new = None
    if at is not None:
        rest = read_rest(runs[0]) if at == "rest" else None
        new = controls_from_at(at, first.posterior.data.control_names, rest)
    found = compare_fits(fits, key=seed, evidence=evidence, check=check, leave_future_out=leave_future_out)
    click.echo(str(found))
    statuses = {fit.status for fit in fits.values()} | {"suspect" for m in found.models if m.missing}
    if csv_ is not None:
        write_new(csv_, found.to_dataframe().to_csv(index=False, lineterminator="\n"))
        click.echo(f"table in {csv_}")
    if new is not None:
        bands = found.predict(new, weights, levels=levels)
        bands.to_csv(out)
        _say_status(bands.status, bands.reasons)
        _say_doubts(bands)
        click.echo(f"averaged bands at {len(new)} controls in {out}")
        statuses.add(bands.status)
    return 3 if strict and statuses != {"ok"} else 0


def parse_outputs_option(text: str) -> tuple[list[str], list[Output]]:
    """Columns and outputs of ``--outputs``: the i-th column without an expression is level i."""
    names, expressions, level = [], [], 0
    for piece in _split(text, "--outputs"):
        # The name may have an equals sign, an expression has none.
        name, equals, expression = (part.strip() for part in piece.rpartition("="))
        name = name or (expression if not equals else "")
        if not name or (equals and not expression):
            raise InputError(f"--outputs: '{piece}' is not COLUMN or COLUMN=EXPR")
        if name in names:
            raise InputError(f"--outputs: column '{name}' is listed twice; list it once")
        names.append(name)
        if equals:
            expressions.append(parse_output(expression))
        else:
            if (meant := output_named(name)) not in (None, Level(level)):
                raise InputError(
                    f"--outputs: column '{name}' alone would be level E{level}; write {name}={meant}, or"
                    f" {name}=E{level} if you mean that"
                )
            expressions.append(Level(level))
            level += 1
    return names, expressions


def _split(text: str, option: str) -> list[str]:
    # As in a table, a name that has a comma stands in quotes.
    pieces = [piece.strip() for piece in next(csv.reader([text], skipinitialspace=True), [""])]
    if not all(pieces):
        raise InputError(f"{option}: '{text}' has an empty entry; separate names by single commas")
    return pieces


def _errors(text: str) -> list[str | None]:
    return [None if piece == "-" else piece for piece in _split(text, "--errors")]


def _levels(text: str) -> tuple[float, ...]:
    pieces = _split(text, "--levels")
    levels = set()
    for piece in pieces:
        level = parse_number(piece)
        if level is None or not 0 < level < 1:
            raise InputError(
                f"--levels: '{piece}' is not the probability of an interval; write numbers between 0 and 1, such as"
                " 0.68,0.95"
            )
        levels.add(level)
    return tuple(sorted(levels))


def _long(text: str | None) -> tuple[str, str] | None:
    if text is None:
        return None
    which, colon, value = (part.strip() for part in text.partition(":"))
    if not (which and colon and value):
        raise InputError(f"--long: '{text}' is not WHICH:VALUE")
    return which, value


def _check_new(path: Path | None) -> None:
    """Refuse a file that cannot be made, before the work whose result it is to hold."""
    if path is None:
        return
    if path.exists():
        raise InputError(f"{path}: exists already; choose another name or move it away")
    if not path.parent.is_dir():
        raise InputError(f"{path}: there is no folder {path.parent}; make it, or choose another place")


def _shown(done: Fit) -> Bands:
    return done.predict(done.posterior.data.controls if done.controls is None else done.controls)


def _say_status(status: str, reasons: tuple[str, ...]) -> None:
    if status == "ok":
        click.echo("status: ok")
        return
    click.echo(f"STATUS: {status.upper()}", err=True)
    for reason in reasons:
        click.echo(f"  - {reason}", err=True)


def _say_doubts(bands: Bands | None) -> None:
    for line in () if bands is None else bands.doubt_lines:
        click.echo(line)


def _finish(done: Fit, bands: Bands | None, folder: Path, strict: bool) -> int:
    _say_status(done.status, done.reasons)
    _say_doubts(bands)
    click.echo("\n".join(str(done).splitlines()[1 + len(done.reasons) :]))
    click.echo(f"everything is in {folder}: " + ", ".join(sorted(p.name for p in folder.iterdir())))
    return 3 if strict and done.status != "ok" else 0

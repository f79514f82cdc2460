"""Pictures: what is drawn where, in any unit and for any number of controls and outputs."""

import io
import re
import warnings
from dataclasses import replace

import numpy as np
import pytest
from canned import FromPrior, canned
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

import bayes_pmm as bp
from bayes_pmm.plotting import MAX_CURVES, panels, plot_bands, plot_chains, plot_residuals


@pytest.fixture(scope="module")
def one():
    return canned(("g",), ("E0", "E1"), error=0.1)


@pytest.fixture(scope="module")
def two():
    return canned(("J", "h"), ("E0", "E1", "E1-E0"))


def grid(*axes):
    return np.stack([a.ravel() for a in np.meshgrid(*axes, indexing="ij")], axis=1)


def legend(figure):
    (found,) = figure.legends
    return [text.get_text() for text in found.get_texts()]


def curves(ax):
    """Lines of the panel that hold more than the proxies of the legend."""
    return [line for line in ax.lines if len(line.get_xdata()) > 1]


def test_one_control(one):
    bands = one.predict(np.linspace(-0.5, 1.5, 7), levels=(0.68, 0.95))
    figure = plot_bands(one, bands, bands.mean["latent"])
    assert len(figure.axes) == 2
    # One legend for both panels, outside of them.
    assert all(ax.get_legend() is None for ax in figure.axes)
    names = legend(figure)
    assert len(names) == len(set(names))
    assert {"95 % latent", "68 % latent", "95 % predictive", "median", "data", "exact"} <= set(names)
    assert "outside the data" in names


def test_own_axes_are_drawn_into(one):
    bands = one.predict(np.linspace(-0.5, 1.5, 7))
    figure = Figure()
    axes = figure.subplots(1, 3)
    height = figure.get_figheight()
    assert plot_bands(one, bands, axes=axes[:2]) is figure
    assert [ax.get_ylabel() for ax in axes] == ["E0", "E1", ""]
    assert not axes[2].has_data()
    # The figure is the user's: nothing but the panels is touched.
    assert not figure.legends
    assert figure.get_figheight() == height
    assert {"90 % latent", "data"} <= {t.get_text() for t in axes[0].get_legend().get_texts()}
    plot_bands(one, bands, outputs="E1", axes=axes[2])
    assert axes[2].get_ylabel() == "E1"
    # Draws so short are not ok, and each panel says so.
    assert all(ax.get_title().startswith(bands.status.upper()) for ax in axes)


def test_axes_that_do_not_fit_are_refused(one):
    bands = one.predict([0.5])
    with pytest.raises(bp.InputError, match="1 were given for 2 outputs"):
        plot_bands(one, bands, axes=Figure().subplots())
    with pytest.raises(bp.InputError, match="Figure is no matplotlib Axes"):
        plot_bands(one, bands, outputs="E0", axes=Figure())


def test_grey_begins_where_the_data_end(one):
    bands = one.predict(np.linspace(-0.5, 1.5, 4))
    ax = plot_bands(one, bands).axes[0]
    spans = [p for p in ax.patches if p.get_label() == "outside the data"]
    edges = sorted(x for p in spans for x in (p.get_x(), p.get_x() + p.get_width()))
    g = one.posterior.data.controls[:, 0]
    np.testing.assert_allclose(edges, [-0.5, g.min(), g.max(), 1.5])
    inside = plot_bands(one, one.predict(np.linspace(0.4, 0.6, 4)))
    assert "outside the data" not in legend(inside)


@pytest.mark.parametrize("name", ["a $b_c^$", "$", "$\\frac$", "λ $\\omega$", "{}%_^"])
def test_names_need_not_be_what_tex_understands(name):
    data = bp.Dataset.from_columns({name: np.linspace(0, 1, 12)}, {f"E {name}": np.linspace(0, 1, 12)})
    fit = bp.fit(bp.Posterior(data, bp.PMM(["E0"], dim=2)), FromPrior(), key=0)
    bands = fit.predict(np.linspace(-0.5, 1.5, 7))
    for figure in (plot_bands(fit, bands), plot_residuals(fit), plot_chains(fit)):
        figure.savefig(io.BytesIO(), format="png")
    assert plot_bands(fit, bands).axes[0].get_xlabel() == name


@pytest.mark.parametrize("unit", [1e-12, 1.0, 1e9])
def test_the_predictive_band_is_there_in_any_unit(one, unit):
    bands = one.predict(np.linspace(0, 1, 5))
    scaled = bp.Bands(
        bands.controls,
        bands.control_names,
        bands.output_names,
        {k: unit * v for k, v in bands.mean.items()},
        {k: unit * v for k, v in bands.sd.items()},
        {k: unit * v for k, v in bands.quantiles.items()},
        bands.extrapolated,
    )
    assert "90 % predictive" in legend(plot_bands(one, scaled))
    scaled.quantiles["predictive"] = scaled.quantiles["latent"]
    assert "90 % predictive" not in legend(plot_bands(one, scaled))


def test_a_grid_of_two_controls_is_drawn_as_curves(two):
    bands = two.predict(grid(np.linspace(0, 2, 9), [0.0, 0.5, 1.0]))
    figure = plot_bands(two, bands, bands.mean["latent"])
    assert len(figure.axes) == 3
    names = legend(figure)
    assert {"h = 0", "h = 0.5", "h = 1", "outside the data", "exact"} <= set(names)
    assert any(re.fullmatch(r"data, h = \S+ \(dark\) to \S+ \(bright\)", name) for name in names)
    for ax in figure.axes:
        assert ax.get_xlabel() == "J"
        (points,) = (c for c in ax.collections if isinstance(c, PathCollection))
        assert len(points.get_offsets()) == two.posterior.data.n_rows
    # Median, its part inside and exact values of each curve, and no line from one curve to the next.
    assert all(np.all(np.diff(line.get_xdata()) > 0) for line in curves(figure.axes[0]))
    other = plot_bands(two, bands, control="h")
    assert other.axes[0].get_xlabel() == "h"
    assert sum(name.startswith("J = ") for name in legend(other)) == MAX_CURVES


def test_the_rows_of_a_grid_may_stand_in_any_order(two):
    controls = grid(np.linspace(0, 2, 5), [0.0, 1.0])
    plain = plot_bands(two, two.predict(controls)).axes[0]
    shuffled = plot_bands(two, two.predict(controls[np.random.default_rng(0).permutation(10)])).axes[0]
    for a, b in zip(curves(plain), curves(shuffled), strict=True):
        np.testing.assert_array_equal(a.get_xdata(), b.get_xdata())


def test_points_that_are_no_grid_keep_their_order(two):
    bands = two.predict(np.random.default_rng(0).uniform(size=(7, 2)))
    assert plot_bands(two, bands).axes[0].get_xlabel() == "prediction point: J, h"
    assert plot_bands(two, bands, control="J").axes[0].get_xlabel() == "J"
    assert plot_bands(two, two.predict([[0.5, 0.5]])).axes[0].get_xlabel() == "prediction point: J, h"


def test_three_controls():
    fit = canned(("a", "b", "c"), ("E0",))
    bands = fit.predict(grid([0.0, 1.0, 2.0], [0.0, 1.0], [0.5]))
    assert "b = 1, c = 0.5" in legend(plot_bands(fit, bands))


def test_panels_leave_no_empty_quarter():
    assert {n: len(panels(n)[0].axes) for n in (1, 2, 3, 4, 6)} == {1: 1, 2: 2, 3: 3, 4: 4, 6: 6}
    assert len({ax.get_subplotspec().rowspan.start for ax in panels(3)[1]}) == 1


def test_exact_values_of_another_shape_are_refused(one):
    bands = one.predict(np.linspace(0, 1, 4))
    for exact in (np.zeros((4, 1)), np.zeros((3, 2)), np.zeros(4), 1.0):
        with pytest.raises(
            bp.InputError, match=r"exact values of shape .* do not fit 4 controls; .* columns E0, E1"
        ):
            plot_bands(one, bands, exact)
    single = canned(("g",), ("E0",))
    plot_bands(single, single.predict([0.1, 0.2]), [1.0, 2.0])


def test_residuals_against_the_only_control(one, two):
    ax = plot_residuals(one).axes[0]
    assert ax.get_xlabel() == "g"
    # Beside each other by a hundredth of the range, or outputs would hide each other.
    c = one.posterior.data.controls[:, 0]
    np.testing.assert_allclose(ax.lines[-1].get_xdata(), c, atol=0.01 * np.ptp(c))
    assert any(name.startswith("±2") for name in legend(plot_residuals(one)))
    assert plot_residuals(two).axes[0].get_xlabel() == "row of the data"


def test_the_title_of_the_chains_stands_above_both_panels(one):
    figure = plot_chains(one)
    assert figure.get_suptitle().startswith("worst output")
    assert all(ax.get_title() == "" for ax in figure.axes)


def test_notebooks_show_pictures_that_pyplot_does_not_know(one):
    figure = plot_residuals(one)
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_some_outputs_are_drawn_in_the_order_that_is_wanted(two):
    bands = two.predict([[0.1, 0.2], [0.3, 0.4], [0.6, 0.1]])
    labels = lambda **kind: [ax.get_ylabel() for ax in plot_bands(two, bands, **kind).axes]
    assert labels() == ["E0", "E1", "E1-E0"]
    assert labels(outputs=["E1-E0", "E0"]) == ["E1-E0", "E0"]
    assert labels(outputs="E1") == ["E1"]
    with pytest.raises(bp.InputError, match="no output is called 'E7'; there are E0, E1, E1-E0"):
        plot_bands(two, bands, outputs=["E7"])


@pytest.mark.parametrize("values", [3, 9])
def test_the_legend_says_what_the_colours_of_data_are(two, values):
    data = two.posterior.data
    own = np.linspace(0, 1, values)[np.arange(data.n_rows) % values]
    posterior = replace(
        two.posterior, data=replace(data, controls=np.stack([data.controls[:, 0], own], axis=1))
    )
    fit = replace(two, posterior=posterior)
    grid = np.stack(np.meshgrid(np.linspace(0, 1, 6), [0.2, 0.4]), axis=-1).reshape(-1, 2)
    figure = plot_bands(fit, fit.predict(grid), control="J")
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    named = [label for label in labels if label.startswith("data")]
    if values == 3:
        assert named == ["data, h = 0", "data, h = 0.5", "data, h = 1"]
    else:
        assert named == ["data, h = 0 (dark) to 1 (bright)"]


def test_a_single_point_is_drawn(one):
    ax = plot_bands(one, one.predict([1.4])).axes[0]
    assert any("latent" in text for text in legend(ax.figure))
    low, high = one.predict([1.4]).interval(0.9)
    ends = [seg for c in ax.collections if hasattr(c, "get_segments") for seg in c.get_segments()]
    assert any(
        np.allclose(seg[:, 0], 1.4) and np.allclose(seg[:, 1], [low[0, 0], high[0, 0]]) for seg in ends
    )


def test_bands_of_another_fit_are_refused(one, two):
    with pytest.raises(bp.InputError, match="are not of this fit"):
        plot_bands(one, two.predict([[0.5, 0.5]]))
    other = canned(("g",), ("E0", "E1", "<0|A|0>"))
    with pytest.raises(bp.InputError, match="are not of this fit"):
        plot_bands(one, other.predict([0.5]))


def test_some_outputs_and_lines_between_levels_have_their_data(one):
    bands = one.predict(np.linspace(0, 1, 5), outputs=["E1-E0", "E1"])
    lines, level = plot_bands(one, bands).axes
    data = one.posterior.data
    (points,) = (line for line in lines.lines if line.get_marker() == "o")
    np.testing.assert_allclose(points.get_ydata(), data.values[:, 1] - data.values[:, 0])
    (points,) = (line for line in level.lines if line.get_marker() == "o")
    np.testing.assert_allclose(points.get_ydata(), data.values[:, 1])
    assert plot_bands(one, one.predict([0.2, 0.8])["E1"]).axes[0].get_ylabel() == "E1"


def test_the_limit_of_an_inverse_basis_is_beside_the_curve():
    c = np.linspace(4.0, 16.0, 7)
    data = bp.Dataset.from_columns({"L": c}, {"E0": 1 + 2 / c}, {"E0": 0.01})
    posterior = bp.Posterior(data, bp.PMM(["E0"], dim=2, basis="inverse:2"))
    fit = bp.fit(posterior, FromPrior(60), key=0)
    exact = np.append(1 + 2 / np.linspace(4, 20, 9), 1.0)[:, None]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ax = plot_bands(fit, fit.predict(np.append(np.linspace(4, 20, 9), np.inf)), exact).axes[0]
        ax.figure.canvas.draw()
    assert [text.get_text() for text in ax.texts] == ["∞"]
    crosses = [line for line in ax.lines if line.get_marker() == "x"]
    assert [float(v) for v in crosses[0].get_ydata()] == [1.0]
    assert crosses[0].get_xdata()[0] > 20.0


@pytest.mark.parametrize("control", ["L", "N"])
@pytest.mark.parametrize("rows", [3, 8])
def test_of_two_controls_the_limit_has_its_own_curve_and_place(control, rows):
    c = np.random.default_rng(0).uniform(1, 8, size=(10, 2))
    data = bp.Dataset(c, 1 + (2 / c).sum(axis=1)[:, None], None, ("L", "N"), ("E0",))
    posterior = bp.Posterior(data, bp.PMM(["E0"], dim=2, basis="inverse:1"))
    fit = bp.fit(posterior, FromPrior(20), key=0)
    at = grid(np.append(np.linspace(2, 5, rows - 1), np.inf), np.append(np.arange(1.0, 8.0), np.inf))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bands = fit.predict(at)
        figure = plot_bands(fit, bands, bands.mean["latent"], control=control)
        figure.canvas.draw()
    (ax,) = figure.axes
    assert [text.get_text() for text in ax.texts] == ["∞"]
    other = "N" if control == "L" else "L"
    handles = dict(zip(legend(figure), figure.legends[0].legend_handles, strict=True))
    colors = [to_hex(h.get_color()) for name, h in handles.items() if name.startswith(f"{other} = ")]
    assert f"{other} = inf" in handles
    assert len(set(colors)) == len(colors) == min(rows if other == "L" else 8, MAX_CURVES)
    # At the limit of the axis each curve has a point, beyond all numbers.
    crosses = [line for line in ax.lines if line.get_marker() == "x"]
    assert len(crosses) == len(colors)
    assert all(line.get_xdata()[0] > c[:, int(control == "N")].max() for line in crosses)


def test_of_many_curves_those_with_data_are_drawn(two):
    steps = np.linspace(-2, 2, 7)
    names = legend(plot_bands(two, two.predict(grid(steps, steps)), outputs="E0"))
    assert any("6 of 7 curves" in name for name in names)
    # The data's h lie between 0 and 1.
    assert {"h = 0", "h = 0.6667", "h = -2", "h = 2"} <= set(names)


def test_where_every_curve_has_data_they_are_taken_from_all_of_them(two):
    bands = two.predict(grid(np.linspace(0, 2, 5), np.linspace(0, 1, 21)))
    names = legend(plot_bands(two, bands, control="J", outputs="E0"))
    values = [float(name.removeprefix("h = ")) for name in names if name.startswith("h = ")]
    assert len(values) == MAX_CURVES
    assert values[0] == 0
    assert values[-1] == 1
    assert np.max(np.diff(values)) < 0.5


def test_a_colour_is_the_same_value_in_every_panel(two):
    data = two.posterior.data
    values = data.values.copy()
    values[data.controls[:, 1] > 0.5, 0] = np.nan  # E0 is missing there
    posterior = replace(two.posterior, data=replace(data, values=values), scaling=None)
    fit = bp.fit(posterior, FromPrior(20), key=0)
    figure = plot_bands(fit, fit.predict(grid(np.linspace(0, 2, 5), [0.0, 0.5])))
    places = np.flatnonzero(~np.isnan(values[:, 0]))
    shades = [
        next(c for c in ax.collections if isinstance(c, PathCollection)).get_facecolor() for ax in figure.axes
    ]
    np.testing.assert_allclose(shades[0], shades[1][places])

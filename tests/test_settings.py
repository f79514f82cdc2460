"""Settings as users give them: seeds, NumPy's numbers, and numbers that are none."""

import jax
import numpy as np
import pytest
from line import Exact, line

import bayes_pmm as bp
from bayes_pmm.defect import Growth
from bayes_pmm.errors import InputError
from bayes_pmm.settings import as_key, in_range, stream

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("seed", [0, 7, np.int64(7), np.uint8(7), -(2**63), 2**63 - 1])
def test_a_seed_becomes_its_key(seed):
    expected = jax.random.key_data(jax.random.key(int(seed)))
    np.testing.assert_array_equal(jax.random.key_data(as_key(seed)), expected)


def test_keys_of_both_kinds_are_taken():
    key = jax.random.key(3)
    assert as_key(key) is key
    assert as_key(jax.random.PRNGKey(3)) == key


@pytest.mark.parametrize("seed", [2**63, -(2**63) - 1, 10**30])
def test_a_seed_of_more_than_64_bits_is_refused(seed):
    with pytest.raises(bp.InputError, match="more than 64 bits"):
        as_key(seed)


@pytest.mark.parametrize("key", [None, 1.0, np.float64(1), "0", [0, 1], jax.random.split(jax.random.key(0))])
def test_what_is_no_key_is_refused(key):
    with pytest.raises(bp.InputError, match="neither a whole number nor one PRNG key"):
        as_key(key)


def test_functions_take_numpy_seeds():
    posterior, method = line(), Exact(50)
    fits = [bp.fit(posterior, method, key=key) for key in (2, np.int64(2))]
    np.testing.assert_array_equal(fits[0].draws.sites["anchor"], fits[1].draws.sites["anchor"])
    found = [
        bp.k_fold(posterior, method, key=key, folds=folds)
        for key, folds in ((2, 3), (np.int64(2), np.int64(3)))
    ]
    np.testing.assert_array_equal(found[0].log_density, found[1].log_density)
    future = [bp.leave_future_out(posterior, method, key=key, steps=1) for key in (2, np.int64(2))]
    np.testing.assert_array_equal(future[0].log_density, future[1].log_density)
    with pytest.raises(bp.InputError, match="neither a whole number"):
        bp.fit(posterior, method, key=0.5)


def test_numpys_numbers_become_pythons():
    for settings, same in (
        (bp.PMM(["E0"], dim=np.int64(2)), bp.PMM(["E0"], dim=2)),
        (bp.Fourier(np.int64(1), np.float64(2.0)), bp.Fourier(1, 2.0)),
        (bp.Polynomial(np.int32(2)), bp.Polynomial(2)),
        (bp.Prior(scale_median=np.float32(2.0)), bp.Prior(scale_median=2.0)),
        (bp.Noise(floor=np.bool_(True), floor_scale=np.float64(0.5)), bp.Noise(floor_scale=0.5)),
        (bp.NUTS(chains=np.int64(2), draws=np.int64(30)), bp.NUTS(chains=2, draws=30)),
    ):
        assert repr(settings) == repr(same)
        assert str(settings) == str(same)


@pytest.mark.parametrize(
    "make",
    [
        lambda: bp.PMM(["E0"], dim=4.0),
        lambda: bp.Polynomial(2.0),
        lambda: bp.InversePowers("2"),
        lambda: bp.Fourier(1.5, 1.0),
        lambda: bp.NUTS(draws=1e3),
    ],
)
def test_what_is_not_whole_is_refused(make):
    with pytest.raises(bp.InputError, match="is not a whole number"):
        make()


def test_in_range_knows_nan_and_infinity_wherever_they_stand():
    assert in_range(1.0, 2)
    assert in_range(0.0, 1.0, zero=True)
    for wrong in (0.0, -1.0, NAN, INF, "1", None):
        assert not in_range(1.0, wrong)
        assert not in_range(wrong, 1.0)
    for wrong in (-1.0, NAN, INF, -INF):
        assert not in_range(0.0, wrong, zero=True)
        assert not in_range(wrong, 0.0, zero=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        *(({"target_accept": x}, "must lie between 0 and 1") for x in (0.0, 1.0, 1.5, NAN, "a")),
        ({"max_tree_depth": 0}, "max_tree_depth = 0 is too few"),
    ],
)
def test_settings_of_nuts_that_cannot_be_are_refused(settings, message):
    with pytest.raises(bp.InputError, match=message):
        bp.NUTS(**settings)


@pytest.mark.parametrize("value", [NAN, INF])
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *((bp.Prior, n) for n in ("scale_median", "secondary_median", "shift_sd", "slab")),
        *((bp.Prior, n) for n in ("scale_spread", "secondary_spread", "growth")),
        (bp.Noise, "floor_scale"),
        *((Growth, n) for n in ("power", "length", "prior")),
        *((bp.Widening, n) for n in ("rate", "most")),
    ],
)
def test_nan_and_infinity_are_refused(kind, name, value):
    with pytest.raises(bp.InputError, match=r"(must be|must not be)"):
        kind(**{name: value})


def test_streams_differ_from_what_a_key_is_split_into():
    key = jax.random.key(0)
    data = lambda k: tuple(jax.random.key_data(k).tolist())
    split = {data(k) for n in (2, 3, 8) for k in jax.random.split(key, n)}
    streams = {data(stream(key, purpose)) for purpose in ("noise", "defect", "modes")}
    assert len(streams) == 3
    assert not split & streams


def test_a_number_that_is_not_whole_is_answered_with_one_near_it():
    with pytest.raises(InputError, match=r"draws = 100.0 is not a whole number; use for example draws=100"):
        bp.NUTS(draws=100.0)


@pytest.mark.parametrize("kind", [bp.Laplace, bp.Variational])
@pytest.mark.parametrize("exact", ["nuts", bp.NUTS, 4])
def test_what_is_no_exact_sampler_is_refused_before_anything_is_computed(kind, exact):
    with pytest.raises(InputError, match=r"exact = .* is no method; give settings such as bp\.NUTS"):
        kind(exact=exact)

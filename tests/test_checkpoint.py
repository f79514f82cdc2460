"""Interrupted runs go on from their checkpoints, bit for bit; broken files are recognised."""

import errno
import json
import os
import subprocess
import sys
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from line import Exact, line

import bayes_pmm as bp
from bayes_pmm.errors import BayesPMMError, InputError
from bayes_pmm.inference import chains, manifold, nuts
from bayes_pmm.inference.checkpoint import ChainFile, save_arrays
from bayes_pmm.inference.manifold import FEWEST_STEPS, MOST_STEPS, Manifold
from bayes_pmm.inference.nuts import NUTS
from bayes_pmm.inference.protocol import silent
from bayes_pmm.inference.start import Starts
from bayes_pmm.locks import LOCK
from bayes_pmm.model import PMM
from bayes_pmm.posterior import Posterior
from bayes_pmm.problems import get

CHUNK = 10
KEY = jax.random.key(5)
CHUNKS = {"nuts": 3 + 4, "manifold": 4 + 4}
"""Chunks of a chain: 25 and 35 draws in tens, and four segments in Manifold's warm-up."""


class PriorStarts:
    """Starts without a search, since what is tested is what comes after."""

    def find(self, posterior, key, chains):
        return Starts([posterior.prior_sites(k) for k in jax.random.split(key, chains)], ())


METHODS = {
    "nuts": NUTS(chains=2, warmup=25, draws=35, max_tree_depth=4, starts=PriorStarts()),
    "manifold": Manifold(chains=2, warmup=25, draws=35, trajectory=1.0, starts=PriorStarts()),
}


class Interrupted(Exception):
    pass


@pytest.fixture(autouse=True, scope="module")
def short_chunks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chains, "CHUNK", CHUNK)
        yield


def oscillator():
    problem = get("oscillator")
    return Posterior(problem.dataset(noise=1e-2, seed=0), PMM(list(problem.outputs.values()), dim=2))


@pytest.fixture(scope="module")
def posterior():
    return oscillator()


@pytest.fixture(scope="module", params=list(METHODS))
def name(request):
    return request.param


@pytest.fixture(scope="module")
def method(name):
    return METHODS[name]


@pytest.fixture(scope="module")
def uninterrupted(posterior, method):
    return method.run(posterior, KEY)


def interrupt(method, posterior, folder, reports):
    """Run until the given number of reports on sampling."""
    seen = []

    def progress(stage, done, total):  # noqa: ARG001
        if stage == "sampling":
            seen.append(done)
            if len(seen) >= reports:
                raise Interrupted

    with pytest.raises(Interrupted):
        method.run(posterior, KEY, progress=progress, checkpoint=folder)


def drawn_so_far(folder):
    counts = []
    for path in sorted(folder.glob("chain_?.npz")):
        try:
            file = np.load(path)
        except FileNotFoundError:  # another thread is between the two renames of a save
            file = np.load(path.with_suffix(".before.npz"))
        with file:
            counts.append(int(file["at"]))
    return counts


def assert_same(one, two):
    for a, b in ((one.sites, two.sites), (one.stats, two.stats)):
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])


def test_twice_interrupted_run_equals_uninterrupted(name, method, posterior, uninterrupted, tmp_path):
    interrupt(method, posterior, tmp_path, 2)
    in_warmup = drawn_so_far(tmp_path)
    assert 0 < min(in_warmup) <= max(in_warmup) <= method.warmup
    interrupt(method, posterior, tmp_path, 6 if name == "nuts" else 8)
    before = drawn_so_far(tmp_path)
    assert method.warmup < max(before) < 60
    seen = []
    resumed = method.run(posterior, KEY, progress=lambda *report: seen.append(report), checkpoint=tmp_path)
    assert_same(resumed, uninterrupted)
    done = [d for stage, d, _ in seen if stage == "sampling"]
    assert len(done) < 2 * CHUNKS[name], "the resumed run drew everything again"
    assert done[-1] == 2 * 60


def test_finished_run_is_read_back_from_plain_arrays(name, method, posterior, uninterrupted, tmp_path):
    first = method.run(posterior, KEY, checkpoint=tmp_path / "new" / "folder")
    seen = []
    again = method.run(
        posterior, KEY, progress=lambda *report: seen.append(report), checkpoint=tmp_path / "new" / "folder"
    )
    assert_same(first, uninterrupted)
    assert_same(again, uninterrupted)
    assert not [r for r in seen if r[0] == "sampling"]
    # The time spent before counts.
    assert again.info["seconds"] >= 0.5 * first.info["seconds"]
    # The files hold plain arrays only.
    paths = sorted((tmp_path / "new" / "folder").iterdir())
    names = [p.name for p in paths]
    shared = (
        [f"shared_{k}{e}" for k in range(1, 5) for e in (".copy.npz", ".npz")] if name == "manifold" else []
    )
    assert names == [f"chain_{i}{e}" for i in (0, 1) for e in (".before.npz", ".npz")] + shared
    for path in paths:
        assert all(name.endswith(".npy") for name in zipfile.ZipFile(path).namelist())
        with np.load(path, allow_pickle=False) as file:
            assert all(file[name].dtype.kind in "biuf" for name in file.files)


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
    path.write_bytes(b"")


def flip(path):
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 8] = bytes(255 - b for b in content[middle : middle + 8])
    path.write_bytes(content)


def without_state(path):
    with np.load(path) as file:
        arrays = dict(file)
    del arrays["state_0"]
    np.savez(path, **arrays)


def pickled(path):
    np.savez(path, at=np.array([{"an": "object"}], dtype=object))


def test_batched_run_resumes_and_has_the_law_of_single_chains(method, posterior, uninterrupted, tmp_path):
    batched, apart = replace(method, batched=True), uninterrupted
    whole = batched.run(posterior, KEY)
    interrupt(batched, posterior, tmp_path, 6)
    assert_same(batched.run(posterior, KEY, checkpoint=tmp_path), whole)
    assert {k: v.shape for k, v in whole.sites.items()} == {k: v.shape for k, v in apart.sites.items()}
    assert {k: v.shape for k, v in whole.stats.items()} == {k: v.shape for k, v in apart.stats.items()}
    # Rounding grows along chains: the first draws still agree, which a mixed-up axis would not.
    np.testing.assert_allclose(whole.stats["n_steps"][:, :5], apart.stats["n_steps"][:, :5])


def test_a_pilot_sees_the_first_draws_and_changes_none(posterior, tmp_path, monkeypatch):
    monkeypatch.setattr(nuts, "PILOT", CHUNK)
    seen = []
    piloted = replace(METHODS["nuts"], pilot=lambda stats: seen.append(stats["n_steps"].copy()))
    whole = METHODS["nuts"].run(posterior, KEY)
    assert_same(piloted.run(posterior, KEY), whole)
    interrupt(piloted, posterior, tmp_path, 5)
    assert_same(piloted.run(posterior, KEY, checkpoint=tmp_path), whole)
    assert [x.shape for x in seen] == [(2, CHUNK)] * len(seen)
    assert len({x.tobytes() for x in seen}) == 1


DAMAGES = [truncate, empty, flip, without_state, pickled]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_file_is_recognised(tmp_path, damage):
    file = ChainFile(tmp_path, 0)
    state = {"x": np.arange(300.0), "key": jax.random.key(1)}
    file.save(state, 10, [(np.zeros((10, 2)),)], 1.0)
    assert file.load(state) is not None
    damage(file.path)
    assert file.load(state) is None


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_file_before_is_used_when_the_last_is_damaged(tmp_path, damage):
    file = ChainFile(tmp_path, 0)
    state = {"x": np.arange(300.0), "key": jax.random.key(1)}
    file.save(state, 10, [(np.zeros((10, 2)),)], 1.0)
    file.save({**state, "x": -state["x"]}, 20, [(np.zeros((20, 2)),)], 2.0)
    damage(file.path)
    loaded, at, kept, _ = file.load(state)
    assert at == 10
    assert kept[0].shape == (10, 2)
    np.testing.assert_array_equal(loaded["x"], state["x"])


@pytest.mark.parametrize("reports", [3, 9, 13])
def test_run_goes_on_from_the_file_before_a_damaged_one(method, posterior, uninterrupted, tmp_path, reports):
    interrupt(method, posterior, tmp_path, reports)
    truncate(tmp_path / "chain_0.npz")
    assert_same(method.run(posterior, KEY, checkpoint=tmp_path), uninterrupted)


def test_damaged_files_start_that_chain_afresh(method, posterior, uninterrupted, tmp_path):
    interrupt(method, posterior, tmp_path, 9)
    for path in tmp_path.glob("chain_0*.npz"):
        truncate(path)
    assert_same(method.run(posterior, KEY, checkpoint=tmp_path), uninterrupted)


def test_what_chains_share_has_a_copy(posterior, tmp_path):
    method = METHODS["manifold"]
    whole = method.run(posterior, KEY)
    interrupt(method, posterior, tmp_path, 6)
    shared = sorted(tmp_path.glob("shared_?.npz"))
    assert shared, "interrupted before the chains met"
    for path in shared:
        truncate(path)
    assert_same(method.run(posterior, KEY, checkpoint=tmp_path), whole)


def test_kill_while_writing_keeps_the_previous_file(tmp_path, monkeypatch):
    file = ChainFile(tmp_path, 0)
    state = {"x": np.arange(3.0), "key": jax.random.key(1)}
    file.save(state, 10, [(np.zeros((10, 2)),)], 1.0)

    def killed(descriptor):  # noqa: ARG001
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        file.save(state, 20, [(np.ones((20, 2)),)], 2.0)
    loaded, at, kept, seconds = file.load(state)
    assert (at, seconds) == (10, 1.0)
    np.testing.assert_array_equal(kept[0], np.zeros((10, 2)))
    np.testing.assert_array_equal(loaded["x"], state["x"])
    assert jax.random.key_data(loaded["key"]).tolist() == jax.random.key_data(state["key"]).tolist()


def test_full_disk_is_said_and_the_run_so_far_is_kept(tmp_path, monkeypatch):
    file = ChainFile(tmp_path, 0)
    state = {"x": np.arange(3.0)}
    file.save(state, 10, [(np.zeros((10, 2)),)], 1.0)

    def full(stream, **arrays):  # noqa: ARG001
        stream.write(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(BayesPMMError, match="No space left on device"):
        file.save(state, 20, [(np.ones((20, 2)),)], 2.0)
    assert file.load(state)[1] == 10
    assert [p.name for p in tmp_path.iterdir()] == ["chain_0.npz"], "the half-written file takes the space"


def test_unwritable_folder_is_said(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(
        BayesPMMError, match=r"chain_0\.npz: checkpoint not written \(.+\); .*mend that and resume"
    ):
        ChainFile(tmp_path / "taken", 0).save({"x": np.zeros(1)}, 1, [], 0.0)


def test_costly_draws_are_saved_more_often(monkeypatch):
    monkeypatch.setattr(chains, "CHUNK", 50)
    of = lambda *draw: chains.chunk_for(manifold._dearest(*draw))
    assert of(20, 90, 1) == of(36, 120, 1) == 50
    assert 10 < of(20, 90, 10) < of(50, 90, 1) < of(50, 20, 1) == 50
    assert 1 == of(1000, 20, 1) < of(150, 90, 4) < of(150, 90, 1) < 10
    of = lambda *draw: chains.chunk_for(nuts._dearest(*draw))
    assert of(10, 9, 10) == of(90, 4, 10) == of(150, 9, 6) == 50
    assert 2 < of(1000, 4, 10) < of(100, 9, 10) < 50
    assert of(1000, 9, 12) == 1


def test_thinned_run_resumes_in_its_shorter_chunks(posterior, tmp_path, monkeypatch):
    thinned = replace(METHODS["manifold"], thin=10, draws=15)
    monkeypatch.setattr(manifold, "_dearest", lambda data, size, thin: thin * chains.SECONDS / 50)  # noqa: ARG005
    seen = []
    whole = thinned.run(posterior, KEY, progress=lambda *report: seen.append(report))
    assert len([r for r in seen if r[0] == "sampling"]) == 1 + 2 * (
        4 + 3
    )  # the first one says that it begins
    interrupt(thinned, posterior, tmp_path, 1 + 2 * 4 + 2)
    drawn = drawn_so_far(tmp_path)
    assert thinned.warmup < max(drawn)
    assert min(drawn) < 40
    resumed = []
    again = thinned.run(posterior, KEY, progress=lambda *r: resumed.append(r), checkpoint=tmp_path)
    assert_same(again, whole)
    assert len(resumed) < len(seen), "the resumed run drew everything again"
    # Steps are those of all transitions of a draw.
    once = np.ceil(thinned.trajectory / whole.stats["step_size"])
    np.testing.assert_array_equal(whole.stats["n_steps"], 10 * np.clip(once, FEWEST_STEPS, MOST_STEPS))


def test_a_file_of_other_shapes_is_said_to_be_foreign(tmp_path):
    file = ChainFile(tmp_path, 0)
    state = {"x": np.arange(3.0), "key": jax.random.key(1)}
    file.save(state, 10, [(np.zeros((10, 2)),)], 1.0)
    for other in ({**state, "x": np.zeros(4)}, {"x": state["x"]}, {**state, "z": np.zeros(2)}):
        with pytest.raises(BayesPMMError, match=r"chain_0\.npz: is a checkpoint of another model"):
            file.load(other)


@pytest.mark.parametrize(
    "wrong", [lambda x: x[:-1], lambda x: [*x[:-1], x[-1][:, None]], lambda x: [x[0][:3], *x[1:]]]
)
def test_records_of_other_shapes_are_said_to_be_foreign(wrong, tmp_path):
    def run(draws):
        step = lambda x: x + 1.0
        chunk = lambda x, count, *_: chains.collect(step, lambda x: (x, 2 * x), x, count)
        return chains.run_chains(
            [chains.Segment(draws)], [np.zeros(2)], (), chunk, (), progress=silent, checkpoint=tmp_path
        )

    run(12)
    path = tmp_path / "chain_0.npz"
    with np.load(path) as file:
        arrays = dict(file)
    kept = wrong([arrays.pop("kept_0"), arrays.pop("kept_1")])
    np.savez(path, **arrays, **{f"kept_{i}": x for i, x in enumerate(kept)})
    with pytest.raises(BayesPMMError, match="is a checkpoint of another model"):
        run(20)


@dataclass(frozen=True)
class Saving(Exact):
    """Leaves a file of a chain, as samplers do, and counts its runs."""

    nothing: bool = False
    runs: list = field(default_factory=list, repr=False)

    def run(self, posterior, key, *, progress=silent, checkpoint=None):  # noqa: ARG002
        self.runs.append(key)
        if not self.nothing:
            save_arrays(checkpoint / "manifold" / "chain_0.npz", {"x": np.zeros(1)})
        return super().run(posterior, key)


def test_a_folder_serves_one_run_only(tmp_path):
    posterior, method = line(), Saving(20)
    names = ("scale_median", "shift_sd")
    first = bp.fit(posterior, method, key=0, checkpoint=tmp_path)
    again = bp.fit(line(), Saving(20), key=np.int64(0), checkpoint=tmp_path)
    assert_same(first.draws, again.draws)
    before = {p.name: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    prior = {n: 1.5 * getattr(posterior.prior, n) for n in names}
    basis = bp.Custom(lambda c: jnp.concatenate([c**0, c], axis=1), name="own")
    for other, settings, what in (
        (line(outlier=1.0), {}, "data"),
        (replace(posterior, prior=replace(posterior.prior, **prior)), {}, "prior"),
        (replace(posterior, noise=bp.Noise()), {}, "noise"),
        (replace(posterior, pmm=bp.PMM(["E0"], dim=2)), {}, "dim"),
        (replace(posterior, pmm=bp.PMM(["E0"], dim=1, field="complex")), {}, "field"),
        (replace(posterior, pmm=bp.PMM(["E0"], dim=1, basis=basis), scaling=None), {}, "basis"),
        (replace(posterior, scaling=replace(posterior.scaling, shift=(9.0,))), {}, "units"),
        (posterior, {"method": Saving(21)}, "method"),
        (posterior, {"key": 1}, "key"),
    ):
        counting = settings.pop("method", Saving(20))
        with pytest.raises(
            InputError, match=rf"checkpoints of a run with other .*{what}.*use another folder"
        ) as e:
            bp.fit(other, counting, **{"key": 0, "checkpoint": tmp_path} | settings)
        assert "\n" not in str(e.value)
        assert not counting.runs
    assert before == {p.name: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}


def test_precision_counts(tmp_path):
    bp.fit(line(), Saving(20), key=0, checkpoint=tmp_path)
    posterior = line()
    with (
        jax.enable_x64(False),
        pytest.warns(UserWarning, match="float32"),
        pytest.raises(InputError, match=r"other .*precision"),
    ):
        bp.fit(posterior, Saving(20), key=0, checkpoint=tmp_path)


def test_a_folder_without_draws_may_be_used_by_another_run(tmp_path):
    bp.fit(line(), Saving(20, nothing=True), key=0, checkpoint=tmp_path)
    bp.fit(line(), Saving(20), key=1, checkpoint=tmp_path)
    with pytest.raises(InputError, match="other key"):
        bp.fit(line(), Saving(20), key=0, checkpoint=tmp_path)


@pytest.mark.parametrize("content", ['{"my": "settings"}', "[1]", "mine", ""])
def test_files_of_something_else_are_left_alone(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    counting = Saving(20)
    with pytest.raises(InputError, match=r"run\.json: does not say of a run.* move it away") as error:
        bp.fit(line(), counting, key=0, checkpoint=tmp_path)
    assert "\n" not in str(error.value)
    assert not counting.runs
    assert whole(tmp_path) == {"run.json": content.encode()}


def test_an_unfinished_file_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "run.partial").write_text("mine")
    bp.fit(line(), Saving(20), key=0, checkpoint=tmp_path)
    assert (tmp_path / "run.partial").read_text() == "mine"
    assert {p.name for p in tmp_path.iterdir()} == {"run.partial", "run.json", "manifold"}


@pytest.mark.parametrize("below", ["", "folder"])
def test_a_checkpoint_that_is_a_file_is_refused(tmp_path, below):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match=r"is no folder, .* give another folder for the checkpoint") as error:
        bp.fit(line(), Saving(20), key=0, checkpoint=tmp_path / "file" / below)
    assert "\n" not in str(error.value)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    "damage", [lambda path: path.unlink(), truncate, empty, lambda path: path.write_text("[1]")]
)
def test_draws_of_nobody_are_refused(tmp_path, damage):
    bp.fit(line(), Saving(20), key=0, checkpoint=tmp_path)
    damage(tmp_path / "run.json")
    with pytest.raises(InputError, match=r"run\.json, which says of which run, is damaged or missing"):
        bp.fit(line(), Saving(20), key=0, checkpoint=tmp_path)


def notes(folder, change):
    """Change what a folder says of its run."""
    content = json.loads((folder / "run.json").read_text())
    change(content)
    (folder / "run.json").write_text(json.dumps(content))


def whole(folder):
    return {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("name", ["bayes_pmm", "jax", "jaxlib", "numpyro", "device"])
def test_other_versions_are_refused_and_the_draws_kept(tmp_path, name):
    bp.fit(line(), Saving(20), key=0, checkpoint=tmp_path)
    notes(tmp_path, lambda n: n["versions"].update({name: "0.0.1"}))
    before, counting = whole(tmp_path), Saving(20)
    now = jax.default_backend() if name == "device" else version(name)
    words = rf"was drawn with {name} 0\.0\.1 \(not {now}\), and .*; go back to those, or use another folder"
    with pytest.raises(InputError, match=words) as error:
        bp.fit(line(), counting, key=0, checkpoint=tmp_path)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=rf"other key, drawn with {name} 0\.0\.1 \(not"):
        bp.fit(line(), counting, key=1, checkpoint=tmp_path)
    assert not counting.runs
    assert whole(tmp_path) == before


def test_draws_of_unknown_versions_go_on_with_a_warning(tmp_path):
    first = bp.fit(line(), Saving(20), key=0, checkpoint=tmp_path)
    notes(tmp_path, lambda n: n.pop("versions"))
    before = whole(tmp_path)
    with pytest.warns(UserWarning, match="does not say with which versions it was drawn"):
        again = bp.fit(line(), Saving(20), key=0, checkpoint=tmp_path)
    assert_same(first.draws, again.draws)
    assert whole(tmp_path) == before


def test_a_folder_is_locked_against_other_threads_during_a_fit(tmp_path):
    begun, end = threading.Event(), threading.Event()

    class Waiting(Saving):
        def run(self, posterior, key, *, progress=silent, checkpoint=None):
            begun.set()
            assert end.wait(60)
            return super().run(posterior, key, progress=progress, checkpoint=checkpoint)

    counting = Saving(20)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(bp.fit, line(), Waiting(20), key=0, checkpoint=tmp_path / "one")
        try:
            assert begun.wait(60)
            with pytest.raises(InputError, match=r"one: another fit is using it \(in this process\)"):
                bp.fit(line(), counting, key=0, checkpoint=tmp_path / "one")
            assert not counting.runs
            bp.fit(line(), counting, key=0, checkpoint=tmp_path / "two")
        finally:
            end.set()
        first.result()
    assert not list(tmp_path.rglob(LOCK))


SAMPLING = """
import os, sys
from pathlib import Path
import jax
jax.config.update("jax_enable_x64", True)
sys.path.insert(0, sys.argv[1])
import test_checkpoint as t

t.chains.CHUNK = t.CHUNK
name, folder = sys.argv[2], Path(sys.argv[3])
written, real = [], os.fsync

def fsync(descriptor):
    # In the middle of writing, once each chain has two chunks of kept draws.
    if min([0, *t.drawn_so_far(folder)][-2:]) >= 25 + 2 * t.CHUNK:
        os.write(1, b"here\\n")
        sys.stdin.read()
    real(descriptor)

os.fsync = fsync
t.bp.fit(t.oscillator(), t.METHODS[name], key=t.KEY, checkpoint=folder)
"""


@pytest.mark.skipif(os.name != "posix", reason="there is no such signal")
def test_run_killed_while_it_writes_its_draws_goes_on_bit_for_bit(name, method, posterior, tmp_path):
    command = [sys.executable, "-c", SAMPLING, str(Path(__file__).parent), name, str(tmp_path / "run")]
    cache = {"JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir}
    pipes = dict.fromkeys(("stdin", "stdout"), subprocess.PIPE)
    with subprocess.Popen(command, env=dict(os.environ) | cache, **pipes) as process:
        try:
            assert process.stdout.readline() == b"here\n"
            with pytest.raises(InputError, match=rf"another fit is using it \(process {process.pid} on"):
                bp.fit(posterior, method, key=KEY, checkpoint=tmp_path / "run")
        finally:
            process.kill()
    assert list((tmp_path / "run").glob("*.partial")), "it was not killed while it wrote"
    assert (tmp_path / "run" / LOCK).exists()
    before = drawn_so_far(tmp_path / "run")
    assert method.warmup < min(before) < 60
    seen = []
    report = lambda *what: seen.append(what)
    resumed = bp.fit(posterior, method, key=KEY, progress=report, checkpoint=tmp_path / "run")
    assert_same(resumed.draws, bp.fit(posterior, method, key=KEY).draws)
    assert next(done for stage, done, _ in seen if stage == "sampling") == sum(before)
    assert not (tmp_path / "run" / LOCK).exists()

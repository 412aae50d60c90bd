import os
import pty
import select
import signal
import subprocess
import sys
import termios
import threading
import time

import numpy as np
import pytest
import xarray

from edgeinfer import quality

CAPTIONS = ["a red circle", "a blue square", "a green ring"]
SEEDS = (3, 4)


class Fake:
    """A cascade whose image says which steps, caption and noise it came from."""

    def __init__(self):
        self.calls = []

    def prior(self, captions, steps, seeds):
        self.calls.append(("prior", steps, len(captions)))
        return np.stack([np.full((1, 2, 2), steps + seed % 7, np.float32) for seed in seeds])

    def decode(self, captions, latent, steps, seeds, *, guidance=1.0):
        self.calls.append(("decode", steps, len(captions)))
        level = latent.reshape(len(latent), -1)[:, 0] + 10 * steps * guidance + [len(c) for c in captions]
        noise = [np.random.default_rng(seed).integers(0, 5, size=(4, 4, 3)) for seed in seeds]
        return np.clip(level[:, None, None, None] + noise, 0, 255).astype(np.uint8)


LEVEL = quality.ImageMeasure("level", lambda images, index: images.mean(axis=(1, 2, 3)), low=0.0)


def direct(prior_steps, decode_steps, guidance=1.0):
    """Scores (captions, seeds) without the surface."""
    fake, scores = Fake(), np.empty((len(CAPTIONS), len(SEEDS)))
    for i, caption in enumerate(CAPTIONS):
        for k, key in enumerate(SEEDS):
            seed = [quality.image_seed(key, i)]
            latent = fake.prior([caption], prior_steps, seed)
            scores[i, k] = fake.decode([caption], latent, decode_steps, seed, guidance=guidance).mean()
    return scores


def measure(cascade, metric=LEVEL, **options):
    return quality.surface(cascade, [1, 4], [2, 3], CAPTIONS, metric, seeds=SEEDS, progress=False, **options)


@pytest.mark.parametrize("batch", [1, 4, 100])
def test_grid_equals_direct_calls(batch):
    table = measure(Fake(), guidance=2.0, batch=batch)
    for i, prior_steps in enumerate((1, 4)):
        for j, decode_steps in enumerate((2, 3)):
            scores = direct(prior_steps, decode_steps, 2.0)
            assert table["level"][i, j] == pytest.approx(scores.mean())
            np.testing.assert_allclose(table["level_of_caption"][i, j], scores.mean(axis=1), rtol=1e-6)
    assert bool((table["level_low"] < table["level"]).all() and (table["level"] < table["level_high"]).all())
    assert table["level"].attrs == {"units": "1", "better": "higher", "provenance": "measured"}
    assert table.attrs["seeds"] == "[3, 4]" and table.attrs["images_a_cell"] == 6


def test_prior_runs_once_for_each_count():
    fake = Fake()
    measure(fake, batch=6)
    assert fake.calls == [
        ("prior", 1, 6),
        ("decode", 2, 6),
        ("decode", 3, 6),
        ("prior", 4, 6),
        ("decode", 2, 6),
        ("decode", 3, 6),
    ]


def test_workers_change_nothing_and_work_at_once():
    """Each of two calls waits for the other: one after another they would wait for ever."""

    class Meets(Fake):
        together = threading.Barrier(2, timeout=60)

        def prior(self, *arguments):
            self.together.wait()
            return super().prior(*arguments)

    assert measure(Meets(), batch=3, workers=2).identical(measure(Fake(), batch=3))


def test_what_fails_in_a_worker_is_raised_and_ends_the_rest():
    class Fails(Fake):
        def decode(self, captions, latent, steps, seeds, **options):
            time.sleep(0.01)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        measure(Fails(), batch=1, workers=2)


def test_features_that_measures_share_are_computed_once():
    calls = []

    def features(images):
        calls.append(len(images))
        return images.reshape(len(images), -1)[:, :2].astype(float)

    def distance(features, captions, *rest):
        return quality.mean_score(features.mean(axis=1), rng=0)

    both = [quality.SetMeasure(name, features, distance) for name in ("one", "two")]
    table = measure(Fake(), both, batch=6)
    assert calls == [6] * 4
    xarray.testing.assert_allclose(table["one"], table["two"].rename("one"))


def test_interval_draws_captions_whole():
    table = measure(Fake())
    means = direct(1, 2).mean(axis=1)
    # With three captions the bootstrap means lie between the least and the greatest of them, both reached.
    assert table["level_low"][0, 0] == pytest.approx(means.min(), rel=0.02)
    assert table["level_high"][0, 0] == pytest.approx(means.max(), rel=0.02)


def test_wire_changes_latents():
    table = measure(Fake(), wire=lambda latent: latent + 5)
    np.testing.assert_allclose(table["level"], measure(Fake())["level"] + 5)


def test_distances_of_sets_and_several_metrics():
    real = np.random.default_rng(1).integers(0, 256, size=(40, 4, 4, 3), dtype=np.uint8)

    class Mean:
        digest, outputs = "mean", ("mean",)

        def __call__(self, images):
            return images.mean(axis=(1, 2))

    fid = quality.fid_measure(Mean(), real)
    kid = quality.kid_measure(Mean(), real, subset_size=5, subsets=2)
    psnr = quality.psnr_measure(real[:3])
    table = measure(Fake(), (fid, kid, psnr))
    assert {"fid", "fid_low", "kid_high", "psnr", "psnr_of_caption"} <= set(table.data_vars)
    assert table["fid"].attrs["better"] == "lower" and "fid_of_caption" not in table
    images = [
        Fake().decode([c], Fake().prior([c], 4, [s]), 3, [s])
        for i, c in enumerate(CAPTIONS)
        for s in (quality.image_seed(k, i) for k in SEEDS)
    ]
    alone = quality.fid(Mean()(real), Mean()(np.concatenate(images)), resamples=0)
    assert table["fid"][1, 1] == pytest.approx(alone.value)


def test_resumes_only_what_is_missing(tmp_path):
    whole = measure(Fake())

    stop = tmp_path / "stop"
    stop.touch()

    class Stops(Fake):
        def decode(self, *arguments, **options):
            if len(self.calls) == 2 and stop.exists():
                raise RuntimeError("stop")
            return super().decode(*arguments, **options)

    with pytest.raises(RuntimeError, match="stop"):
        measure(Stops(), batch=6, store=tmp_path / "s.zarr")
    stop.unlink()
    fake = Stops()
    table = measure(fake, batch=6, store=tmp_path / "s.zarr")
    assert fake.calls == [("prior", 1, 6), ("decode", 3, 6), ("prior", 4, 6), ("decode", 2, 6), ("decode", 3, 6)]
    np.testing.assert_array_equal(table["level"], whole["level"])
    assert table.equals(measure(fake, store=tmp_path / "s.zarr"))
    with pytest.raises(ValueError, match="another surface"):
        measure(fake, store=tmp_path / "s.zarr", guidance=3.0)


class Tinted(Fake):
    """Another painter, by a value that it holds."""

    def __init__(self, tint):
        super().__init__()
        self.tint = tint

    def decode(self, *arguments, **options):
        return super().decode(*arguments, **options) + np.uint8(self.tint)


def test_a_store_is_of_one_cascade(tmp_path):
    """What one had painted was the other's surface."""
    first = measure(Tinted(1), store=tmp_path / "s")
    assert first.equals(measure(Tinted(1), store=tmp_path / "s"))
    for other in (Tinted(2), Fake()):
        with pytest.raises(ValueError, match=r"holds another surface: .*cascade"):
            measure(other, store=tmp_path / "s")

    class Folder(Fake):
        """What holds a session, which has no value."""

        def __init__(self, weights):
            super().__init__()
            self.weights, self.session = weights, (x for x in ())

        @property
        def store_identity(self):
            return self.weights

    folder = measure(Folder("1"), store=tmp_path / "f")
    assert folder.equals(measure(Folder("1"), store=tmp_path / "f"))
    with pytest.raises(ValueError, match="holds another surface: cascade differs"):
        measure(Folder("2"), store=tmp_path / "f")


def test_netcdf_reads_back(tmp_path):
    xarray = pytest.importorskip("xarray")
    table = measure(Fake(), provenance={"weights": "abc"})
    table.to_netcdf(tmp_path / "surface.nc", engine="h5netcdf")
    with xarray.open_dataset(tmp_path / "surface.nc", engine="h5netcdf") as again:
        assert again.load().identical(table) and again.attrs["weights"] == "abc"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"prior_steps": []}, "prior_steps"),
        ({"prior_steps": [0]}, r"prior_steps\[0\] = 0"),
        ({"decode_steps": [1.5]}, r"decode_steps\[0\] = 1.5"),
        ({"decode_steps": [2, 2]}, "not repeat"),
        ({"captions": ["a red circle"]}, "at least 2"),
        ({"seeds": 0}, "seeds = 0"),
        ({"seeds": [1, 1]}, r"seeds = \[1, 1\]"),
        ({"metric": []}, "at least one"),
        ({"metric": [LEVEL, LEVEL]}, "different variables"),
        ({"metric": quality.ImageMeasure("bad", lambda images, index: index * np.nan)}, "metric bad"),
        ({"batch": 0}, "batch"),
        ({"workers": 0}, "workers"),
        ({"confidence": 2}, "confidence"),
    ],
)
def test_bad_input(change, text):
    arguments = {"prior_steps": [1], "decode_steps": [1], "captions": CAPTIONS, "metric": LEVEL, "progress": False}
    with pytest.raises(ValueError, match=text):
        quality.surface(Fake(), **(arguments | change))


SCRIPT = """
import sys, time
import numpy as np
from edgeinfer import quality
class Slow:
    def prior(self, captions, steps, seeds):
        return np.full((len(captions), 1, 2, 2), steps, np.float32)
    def decode(self, captions, latent, steps, seeds):
        time.sleep(float(sys.argv[2]))
        print("cell", int(latent[0, 0, 0, 0]), steps, flush=True)
        return np.full((len(captions), 4, 4, 3), steps + int(latent[0, 0, 0, 0]), np.uint8)
level = quality.ImageMeasure("level", lambda images, index: images.mean(axis=(1, 2, 3)))
table = quality.surface(Slow(), [1, 2, 4], [1, 2, 3], ["a", "b"], level, store=sys.argv[1])
print("sum", table["level"].sum().item(), flush=True)
"""


@pytest.mark.process
def test_resumes_after_kill_and_shows_a_bar_on_a_terminal_only(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, str(tmp_path / "script.py"), str(tmp_path / "z")]
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    victim = subprocess.Popen([*command, "0.3"], stdout=subprocess.PIPE, stderr=theirs, text=True)
    for _ in range(5):
        victim.stdout.readline()
    os.kill(victim.pid, signal.SIGKILL)
    victim.communicate()
    assert select.select([ours], [], [], 10)[0] and b"step" in os.read(ours, 1 << 16)
    os.close(ours)
    os.close(theirs)
    again = subprocess.run([*command, "0"], capture_output=True, text=True, check=True)
    lines = again.stdout.splitlines()
    assert lines[-1] == f"sum {sum(p + d for p in (1, 2, 4) for d in (1, 2, 3)):.1f}"
    # Five cells had begun to be written; the last one may not have been finished.
    assert len(lines) - 1 in (4, 5) and lines[-2] == "cell 4 3"
    assert again.stderr == ""

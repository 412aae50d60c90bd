"""Profiles: what is timed, what becomes a pipeline, and the file."""

import json

import numpy as np
import pytest

import edgeinfer as ei
from bridge import tiny
from edgeinfer import bridge

LINK = ei.RayleighLink(1e6, 31, -100, 128.1, 0.01)


@pytest.fixture(scope="module")
def profile(cascade):
    return bridge.profile(cascade, 6, 4, repetitions=5, warmup=1, captions=tiny.CAPTIONS)


def test_what_is_measured(profile, cascade):
    assert (profile.name, profile.prior_steps, profile.decode_steps) == ("tiny", 6, 4)
    assert profile.prior.shape == profile.decode_inference.shape == (5,)
    assert set(profile.passes) == {"text_encoder", "prior_16", "prior_32", "decoder"}
    assert profile.step_times["prior"] == pytest.approx(profile.passes["prior_16"] + profile.passes["prior_32"])
    assert profile.step_times["decode"] == profile.passes["decoder"]
    # The parts are within the whole, whatever the machine does meanwhile.
    assert np.all(profile.prior_inference < profile.prior) and np.all(profile.decode_inference < profile.decode)
    assert np.all(profile.overhead > 0)
    assert profile.costs == cascade.costs()
    assert profile.provenance["repetitions"] == 5 and profile.provenance["threads"] == 1
    assert profile.provenance["kind"] == "measured" and profile.provenance["onnxruntime"]
    assert profile.edge_flops == pytest.approx((2048 + 6 * 774288) / np.median(profile.prior))
    assert profile.device_flops(3) == pytest.approx((2048 + 4 * 2 * 2654280) / np.median(profile.decode) / 3)
    assert profile.edge() == ei.Node("edge", profile.edge_flops) and profile.device().name == "device"
    with pytest.raises(ValueError):
        profile.prior[0] = 1


def test_progress_and_settings(cascade):
    seen = []
    options = {"repetitions": 2, "warmup": 1, "wire": "float16", "guidance": 1, "sampler": "ddpm"}
    p = bridge.profile(cascade, 1, 1, progress=lambda *call: seen.append(call), **options)
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert p.costs.latent_bits == 49152 and p.costs.decode_step == tiny.FLOPS["decode_step"]
    assert (p.provenance["wire"], p.provenance["sampler"]) == ("float16", "ddpm")
    assert p.provenance["guidance"] == {"prior": 1, "decode": 1}


def test_pipelines(profile):
    pipelines = profile.pipelines(LINK, slowdown=2)
    assert {name: p.names for name, p in pipelines.items()} == {
        "split": ("prior", "downlink", "decode"),
        "edge_only": ("inference", "downlink"),
        "device_only": ("inference",),
    }
    both = profile.prior + profile.decode
    np.testing.assert_array_equal(pipelines["split"][0].samples, np.sort(profile.prior))
    np.testing.assert_array_equal(pipelines["split"][2].samples, np.sort(2 * profile.decode))
    np.testing.assert_array_equal(pipelines["edge_only"][0].samples, np.sort(both))
    np.testing.assert_array_equal(pipelines["device_only"][0].samples, np.sort(2 * both))
    assert (pipelines["split"][1].bits, pipelines["edge_only"][1].bits) == (24576, 98304)
    bracket = ei.violation_bracket(pipelines["split"], 0.1 / both.mean(), 1.0)
    assert 0 <= bracket.lower <= bracket.upper <= 1


def test_file(profile, tmp_path):
    path = tmp_path / "profile.json"
    profile.save(path)
    again = bridge.Profile.load(path)
    for name, value in vars(profile).items():
        assert np.array_equal(getattr(again, name), value) if isinstance(value, np.ndarray) else True
    again.save(tmp_path / "again.json")
    assert path.read_bytes() == (tmp_path / "again.json").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again.json", "profile.json"]


def test_a_failed_save_leaves_the_old_file(profile, tmp_path, monkeypatch):
    path = tmp_path / "profile.json"
    path.write_text("old")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        profile.save(path)
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"format": 9}, "format = 9: must be 1"),
        ({"prior": []}, "prior of shape"),
        ({"prior": [0.0] * 5}, r"prior\[0\] = 0: must be in \(0, inf\)"),
        ({"prior": [0.1]}, "decode of shape .5,.: must be .1,."),
        ({"costs": {}}, "Cascade"),
        ({"decode_steps": 0}, "decode_steps = 0"),
        (None, "not a profile"),
    ],
)
def test_files_that_lie(profile, tmp_path, change, text):
    path = tmp_path / "profile.json"
    profile.save(path)
    path.write_text("{" if change is None else json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=f"profile.json: not a profile: .*{text}" if change else text):
        bridge.Profile.load(path)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda c, p: bridge.profile(c, 1, 1, repetitions=0), "repetitions = 0"),
        (lambda c, p: bridge.profile(c, 1, 1, warmup=-1), "warmup = -1"),
        (lambda c, p: bridge.profile(c, 0, 1), "prior steps = 0"),
        (lambda c, p: bridge.profile(c, 1, 1, captions=[]), "captions = "),
        (lambda c, p: bridge.profile(c, 1, 1, wire="int4"), "wire = 'int4'"),
        (lambda c, p: p.pipelines(LINK, slowdown=0), "slowdown = 0"),
        (lambda c, p: p.device_flops(np.nan), "slowdown = nan"),
    ],
)
def test_bad_input_is_named(cascade, profile, call, text):
    with pytest.raises(ValueError, match=text):
        call(cascade, profile)

import copy
import pickle
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import edgeinfer as ei
from edgeinfer import _core
from edgeinfer.model import links

LINK = ei.RayleighLink(10e6, 31, -100, 128.1, 0.01)
NODE = ei.Node("edge", 1e12)


def test_stages_and_prefixes():
    pipeline = ei.Pipeline([ei.Compute(1e12, NODE, "a"), ei.Transfer(1e6, LINK, "b"), ei.Measured([0.2, 0.1], "c")])
    assert pipeline.names == ("a", "b", "c") and len(pipeline[:2]) == 2 and pipeline[1].name == "b"
    mean, variance = pipeline.moments()
    np.testing.assert_allclose(mean, [1, LINK.transfer(1e6).mean(), 0.15])
    np.testing.assert_allclose(variance, [0, LINK.transfer(1e6).var(), 0.0025])


def test_stages_by_their_names():
    a, b = ei.Constant(1.0, "a"), ei.Constant(2.0, "b")
    assert ei.Pipeline([a, b])["b"] is b
    for name in ("a", "c"):
        with pytest.raises(ValueError, match=f"stage '{name}': must be the name of one stage of 'a', 'b', 'a'"):
            ei.Pipeline([a, b, a])[name]


def test_links_of_a_given_snr_and_of_a_given_rate():
    link = ei.RayleighLink.from_snr(LINK.snr, 10e6, 0.01, 0.1)
    assert link.snr == LINK.snr and link.tx_power_dbm is None
    assert link.mean_rate() == replace(LINK, control_overhead=0.1).mean_rate()
    assert pickle.loads(pickle.dumps(link)) == link != LINK and hash(link) == hash(copy.deepcopy(link))
    assert link.transfer(1e6).mean() == replace(LINK, control_overhead=0.1).transfer(1e6).mean()
    # The stages of a family, and the searches that replace a bandwidth.
    for one in (link, LINK):
        fast = one.at_rate([1e6, 5e7])
        np.testing.assert_allclose(fast.mean_rate(), [1e6, 5e7], rtol=1e-12)
        assert fast.snr == one.snr and fast.slot == one.slot
    assert ei.RayleighLink.from_snr([1.0, 2.0], 1e6, [[0.01], [0.02]]).shape == (2, 2)
    pipeline = ei.Pipeline([ei.Transfer(1e6, link, "downlink")])
    assert 1e5 < ei.min_bandwidth(pipeline, 1.0, 1.0, 1e-2, tolerance=0.1) < 1e8


def test_bad_links_of_a_given_snr():
    with pytest.raises(ValueError, match=r"^snr = 0: must be in"):
        ei.RayleighLink.from_snr(0, 1e6, 0.01)
    with pytest.raises(ValueError, match=r"mean_snr = 2.0: must be None where"):
        ei.RayleighLink(1e6, 31, -100, 128.1, 0.01, mean_snr=2.0)
    with pytest.raises(ValueError, match=r"mean_snr = 1.0: must be given as tx_power_dbm"):
        ei.RayleighLink.from_snr(1.0, 1e6, 0.01).power_budget()
    assert ei.RayleighLink(**LINK.power_budget()) == LINK
    with pytest.raises(ValueError, match="mean_rate = -1: must be in"):
        LINK.at_rate(-1)
    with pytest.raises(ValueError, match="tx_power_dbm = None"):
        ei.RayleighLink(1e6, None, None, None, 0.01)


def test_laws_pickle_and_copy():
    law = ei.RayleighLink(np.array([5e6, 10e6]), 31, -100, 128.1, 0.01).transfer(1e6)
    for again in (pickle.loads(pickle.dumps(law)), copy.deepcopy(law), copy.copy(law)):
        np.testing.assert_array_equal(again.sf([0.1, 0.2]), law.sf([0.1, 0.2]))
        assert again.shape == law.shape and again.link == law.link


def test_laws_of_a_family_are_kept_between_calls(monkeypatch):
    built = []

    def build(*parameters):
        built.append(parameters)
        return _core.Transfer(*parameters)

    laws = links._Laws(200_000)
    monkeypatch.setattr(links, "_core", SimpleNamespace(Transfer=build, CoreError=_core.CoreError))
    first = [laws.get(bits, 1e7, 1.0, 0.01) for bits in (1e5, 2e5, 1e5)]
    assert first[0] is first[2] and len(built) == 2
    kept = sum(map(sys.getsizeof, first[:2]))
    assert laws.size == kept < laws.capacity
    for bits in range(100_000, 140_000, 1000):
        laws.get(float(bits), 1e7, 1.0, 0.01)
    assert laws.size <= laws.capacity
    latest = len(built)
    laws.get(139_000.0, 1e7, 1.0, 0.01)
    assert len(built) == latest
    laws.get(100_000.0, 1e7, 1.0, 0.01)
    assert len(built) == latest + 1


def test_a_law_of_too_many_slots_is_refused_by_name():
    with pytest.raises(ValueError, match=r"bits = 1e\+15: .* must be at most 2e7 slots a transfer"):
        LINK.transfer(1e15)


def test_families_equal_their_members():
    bits = np.array([[1e6], [2e6]])
    link = ei.RayleighLink(np.array([5e6, 10e6, 20e6]), 31, -100, 128.1, 0.01)
    family = link.transfer(bits)
    assert family.shape == (2, 3) and family.mean().shape == (2, 3)
    one = ei.RayleighLink(20e6, 31, -100, 128.1, 0.01).transfer(2e6)
    assert family.mean()[1, 2] == one.mean()
    np.testing.assert_array_equal(family.sf(np.array([0.1, 0.2, 0.3]))[1, 2], one.sf(0.3))
    pipeline = ei.Pipeline([ei.Compute(np.array([1e11, 2e11, 3e11]), NODE, "a"), ei.Transfer(bits, link, "b")])
    assert pipeline.shape == (2, 3) and pipeline.moments()[0].shape == (2, 3, 2)


def test_links_of_any_fading_broadcast_and_agree_everywhere():
    base = (10e6, 31, -100, 128.1, 0.01)
    assert ei.FadingLink(*base).mean_rate() == LINK.mean_rate()
    assert ei.FadingLink(*base).transfer(1e6).mean() == LINK.transfer(1e6).mean()
    fading = ei.BestOf(np.array([[1], [4]]), ei.MaximalRatio([1, 2, 3], ei.Nakagami(1.5)))
    family = ei.FadingLink(*base, fading=fading)
    assert family.shape == (2, 3) and family.mean_rate().shape == (2, 3)
    pipeline = ei.Pipeline([ei.Transfer([1e6, 2e6, 3e6], family, "up"), ei.Constant(0.05, "edge")])
    one = pipeline.element(5)
    assert one[0].link == ei.FadingLink(*base, fading=ei.BestOf(4, ei.MaximalRatio(3, ei.Nakagami(1.5))))
    assert one.moments()[0][0] == pipeline.moments()[0][1, 2, 0]
    # False alarms of an interval at 1 - 1e-6: below 1e-5 in all.
    stages = [ei.Transfer(2e6, ei.FadingLink(*base, fading=ei.Rician(4.0)), "up"), ei.Constant(0.1, "edge")]
    mixed = ei.Pipeline([*stages, ei.Transfer(1e6, ei.FadingLink(*base, fading=ei.Nakagami(0.5)), "down")])
    bracket = ei.violation_bracket(mixed, 3.0, 1.0)
    assert 0 < bracket.lower <= bracket.upper < 1
    rare = ei.rare_violation(mixed, 3.0, 1.0, rng=1, relative_error=0.02, confidence=1 - 1e-6)
    assert rare.low <= bracket.upper and rare.high >= bracket.lower
    for link in ("table", "slots"):
        run = ei.simulate(mixed, 3.0, 1.0, rng=2, jobs=5000, replications=16, link=link, confidence=1 - 1e-6)
        assert run.violation.low[-1] <= bracket.upper and run.violation.high[-1] >= bracket.lower
    for method in ("union", "lundberg"):
        assert ei.violation_bound(mixed, 3.0, 1.0, method) >= bracket.lower


def test_equality_and_hash():
    assert ei.Node("a", 1.0) == ei.Node("a", 1.0) != ei.Node("a", 2.0)
    assert ei.Node("a", [1.0, 2.0]) == ei.Node("a", [1.0, 2.0])
    assert hash(ei.Measured([1.0], "x")) == hash(ei.Measured([1.0], "x"))
    with pytest.raises(AttributeError):
        ei.Node("a", 1.0).flops = 2.0
    with pytest.raises(ValueError):
        ei.Node("a", [1.0, 2.0]).flops[0] = 3.0


def test_control_overhead_scales_the_rate():
    busy = ei.RayleighLink(10e6, 31, -100, 128.1, 0.01, control_overhead=0.15)
    assert busy.mean_rate() == pytest.approx(0.85 * LINK.mean_rate())


def test_samples_are_seeded():
    law = LINK.transfer([1e6, 2e6])
    assert law.sample(5, 3).shape == (5, 2)
    np.testing.assert_array_equal(law.sample((2, 3), 3), law.sample((2, 3), np.random.SeedSequence(3)))
    generator = np.random.default_rng(1)
    assert LINK.sample_rate(1, generator) != LINK.sample_rate(1, generator)


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: ei.Node("a", 0.0), r"flops = 0: must be in \(0, inf\)"),
        (lambda: ei.Node("a", [1.0, np.nan]), r"flops\[1\] = nan"),
        (lambda: ei.Node("a", "fast"), "flops = 'fast'"),
        (lambda: ei.RayleighLink(1e6, 31, -100, 100, 0.01, 1.0), r"control_overhead = 1: must be in \[0, 1\)"),
        (lambda: ei.RayleighLink([1e6, 2e6], [1, 2, 3], -100, 100, 0.01), r"bandwidth \(2,\), tx_power_dbm \(3,\)"),
        (lambda: LINK.transfer(-1.0), "bits = -1"),
        (lambda: LINK.transfer(1e6).sf(np.nan), "t = nan"),
        (lambda: ei.Compute(1e12, ei.Node("a", 1e-300), "x"), "work / flops = inf"),
        (lambda: ei.Pipeline([]), "at least one stage"),
        (lambda: ei.Pipeline([1.0]), "must be a Constant, Compute"),
        (lambda: ei.Measured([], "x"), "not empty"),
        (lambda: ei.Measured([-1.0], "x"), r"samples\[0\] = -1"),
        (lambda: ei.Cascade(1, 1, 1, 1, 0, 1), "latent_bits = 0"),
        (lambda: ei.Exponential(0.0, "x"), "mean_time = 0"),
        (lambda: ei.Nakagami(0.4), r"m = 0.4.*: must be in \[0.5, 10000\]"),
        (lambda: ei.Rician(-1.0), "k_factor = -1"),
        (lambda: ei.MaximalRatio(1.5), r"branches = 1.5: must be whole numbers"),
        (lambda: ei.MaximalRatio(2, ei.BestOf(2)), "must be Rayleigh, Nakagami or Rician for each branch"),
        (lambda: ei.MaximalRatio(200, ei.Nakagami(100.0)), "m times branches = 20000"),
        (lambda: ei.BestOf(0), "users = 0"),
        (lambda: ei.BestOf(2, ei.BestOf(2)), "of each user"),
        (lambda: ei.FadingLink(1e6, 31, -100, 100, 0.01, fading=2.0), "fading = 2.0: must be a Rayleigh, Nakagami"),
        (lambda: ei.FadingLink([1e6, 2e6], 1, -100, 100, 0.01, fading=ei.Rician([1, 2, 3])), r"fading \(3,\)"),
    ],
)
def test_bad_input_is_named(build, text):
    with pytest.raises(ValueError, match=text):
        build()


def test_an_element_of_a_family_is_the_pipeline_of_its_numbers():
    link = ei.RayleighLink(np.array([[5e6], [10e6]]), 31, -100, 128.1, 0.01)
    node = ei.Node("n", np.array([1e12, 2e12, 4e12]))
    measured = ei.Measured([0.1, 0.2], "decode")
    family = ei.Pipeline(
        [ei.Compute(1e12, node, "a"), ei.Transfer(1e6, link, "b"), measured, ei.Constant([[0.1], [0.2]], "c")]
    )
    assert family.shape == (2, 3)
    for index in range(6):
        single = family.element(index)
        row, column = divmod(index, 3)
        assert single.shape == ()
        assert single[0].node.flops == node.flops[column]
        assert single[1].link.bandwidth == link.bandwidth[row, 0]
        assert single[2] is measured
        assert single[3].seconds == [0.1, 0.2][row]
        assert np.array_equal(single.moments()[0], family.moments()[0][row, column])
    for wrong in (-1, 6, 0.5):
        with pytest.raises(ValueError, match="index"):
            family.element(wrong)


def test_stages_of_the_core_are_made_once():
    stages = ei.Pipeline([ei.Constant(0.1, "a")]).elements()[0]
    assert len(stages) == 1
    assert _core.service_moments(_core.Stages(stages))[0] == 0.1
    with pytest.raises(ValueError, match="empty"):
        _core.Stages([])
    with pytest.raises(TypeError):
        _core.Stages(3)


def test_laws_say_their_mean():
    assert repr(ei.ConstantLink(1e6).transfer(5e5)) == "<TransferMixture of mean 0.5 s>"
    assert repr(ei.OutageLink(1e6, 0.0, 0.25).transfer(5e5)) == "<RepetitionTime of mean 0.5 s>"


def test_points_in_time_are_told_from_times_since():
    clock = np.datetime64("2026-01-01") + np.array([0, 1500, 4000], dtype="timedelta64[ms]")
    with pytest.raises(ValueError, match=r"times = .*: is a point in time: .*; give the time since another"):
        ei.Recorded(clock)
    assert ei.Recorded(clock - clock[0]) == ei.Recorded([0.0, 1.5, 4.0])

"""Measured times of operations: that they are those of the whole, and what other nodes make of them."""

import json

import numpy as np
import pytest
from bridge import networks

from edgeinfer import RayleighLink
from edgeinfer.bridge import NetworkProfile, cut, profile
from edgeinfer.network.sessions import LEVELS


@pytest.fixture(scope="module")
def measured():
    return profile(networks.light("squeezenet"), repetitions=5, warmup=1)


def test_shares_of_the_whole(measured):
    assert measured.times.sum() == pytest.approx(measured.totals.mean())
    assert (measured.low <= measured.times).all() and (measured.times <= measured.high).all()
    by_kind = {kind: 0.0 for kind in {operation.kind for operation in measured.graph.operations}}
    for operation, time in zip(measured.graph.operations, measured.times, strict=True):
        by_kind[operation.kind] += time
    # Convolutions are 99.9 % of the operations; fused activations have no time of their own.
    assert by_kind["Conv"] > sum(by_kind.values()) / 2
    assert measured.memory["weights"] == measured.graph.weight_bytes
    assert measured.memory["measured"] > measured.graph.weight_bytes
    assert {"level": "all", "traced_level": "extended", "threads": 1}.items() <= measured.provenance.items()


@pytest.mark.parametrize("level", LEVELS)
def test_levels(level):
    measured = profile(networks.random_model(np.random.default_rng(4), 8), repetitions=3, level=level)
    assert measured.times.sum() == pytest.approx(measured.totals.mean())


def test_without_fusion_every_operation_takes_time():
    measured = profile(networks.light("squeezenet"), repetitions=3, warmup=1, level="disabled")
    # The trace counts microseconds, and the least of these operations takes several.
    assert (measured.times > 0).mean() > 0.95


def test_other_nodes(measured):
    twice = measured.node("slow", 2.0)
    np.testing.assert_allclose(measured.times_on(twice), 2 * measured.times)
    np.testing.assert_allclose(measured.samples_on(twice, 0.25), measured.totals / 2)
    assert measured.flops_rate == pytest.approx(measured.graph.flops / measured.totals.mean())
    # So slow that whatever was measured, sending the input costs less than any operation there.
    slowest = measured.node("slowest", 1e6)
    best = cut(measured, device=slowest, edge=measured.node("edge"), link=RayleighLink(1e9, 31, -100, 128.1, 1e-3))
    assert best.pipeline().names == ("uplink", "edge")
    device = cut(measured, device=measured.node("device"), edge=twice, link=RayleighLink(1e3, 31, -100, 128.1, 1e-3))
    assert device.latency == pytest.approx(measured.totals.mean())
    assert np.array_equal(device.pipeline()[0].samples, np.sort(measured.samples_on(measured.node("device"), 1.0)))


def test_saved_and_loaded(measured, tmp_path):
    path = tmp_path / "profile.json"
    measured.save(path)
    again = NetworkProfile.load(path)
    for name in ("times", "low", "high", "totals"):
        assert np.array_equal(getattr(again, name), getattr(measured, name))
    assert again.graph == measured.graph and again.memory == measured.memory
    assert [file.name for file in tmp_path.iterdir()] == ["profile.json"]
    data = json.loads(path.read_text())
    for change in (
        {"format": 2},
        {"times": [1.0]},
        {"totals": []},
        {"totals": [float("nan")]},
        {"graph": data["graph"] | {"operations": data["graph"]["operations"][1:]}},
        {"graph": 3},
    ):
        path.write_text(json.dumps(data | change))
        with pytest.raises(ValueError, match="not a network's profile"):
            NetworkProfile.load(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"repetitions": 1}, "repetitions = 1"),
        ({"warmup": -1}, "warmup = -1"),
        ({"level": "most"}, "level = 'most'"),
        ({"threads": 0}, "threads = 0"),
        ({"shapes": {"q": (1,)}}, "no such input"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(ValueError, match=message):
        profile(networks.random_model(np.random.default_rng(4), 3), **options)
    with pytest.raises(ValueError, match="model = 3"):
        profile(3)


def test_a_network_without_counted_operations_scales_by_the_rate_of_a_product():
    nodes = [networks.helper.make_node("Relu", ["x"], ["y"])]
    measured = profile(networks.model(nodes, {"x": [1000]}, {"y": [1000]}), repetitions=20)
    assert measured.flops_rate == measured.provenance["product_flops_rate"] > 1e8
    assert measured.times_on(measured.node("n", 3.0)) == pytest.approx(3 * measured.times)

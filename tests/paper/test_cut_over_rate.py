"""What Neurosurgeon and DADS observed, on the light models' shapes."""

import numpy as np
import pytest
from bridge import networks

from edgeinfer import Node
from edgeinfer.bridge import NetworkProfile, chain_cuts, cut, light_path, read_graph
from edgeinfer.paper.items import cut_over_rate

NAMES = ("bvlc_alexnet", "inception_v1", "shufflenet")


@pytest.fixture(scope="module")
def table():
    rates = np.geomspace(1e6, 1e9, 13)
    return cut_over_rate.data(networks=NAMES, ratios=(4.0,), rates=rates, heavy_rates=(1e7, 1e8))


def test_the_cut_moves_to_the_front_as_the_link_grows_faster(table):
    share = table["device_share"].sel(network="bvlc_alexnet", ratio=4).values
    assert share[0] == 1 and share[-1] == 0
    assert (np.diff(share) <= 0).all()
    assert any(0 < value < 1 for value in share)


def test_cuts_through_the_graph_beat_chain_cuts_on_inception(table):
    row = table.sel(network="inception_v1")
    gain = row["throughput"] / row["chain_throughput"]
    assert (gain >= 1 - 1e-9).all()
    # At 10 Mbit/s: four tensors of 360 channels in all cross inside a module that reads 480.
    assert float(gain.sel(ratio=4, heavy_rate=1e7)) == pytest.approx(480 / 360)
    assert (row["crossing"].values[gain.values > 1.01] > 1).all()
    # On a chain there is nothing to gain.
    chain = table.sel(network="bvlc_alexnet")
    np.testing.assert_array_equal(chain["throughput"], chain["chain_throughput"])


def test_every_cut_for_latency_is_among_the_corners(table):
    """At random speeds and rates the least latency over the corners is the minimum cut's."""
    rng = np.random.default_rng(3)
    for name in NAMES:
        graph = read_graph(light_path(name))
        corners = cut_over_rate._best_for_latency(graph)
        for _ in range(4):
            device, edge = np.sort(10 ** rng.uniform(8, 12, 2))
            slope = 10 ** rng.uniform(-4, -1)
            nodes = {"device": Node("device", device), "edge": Node("edge", edge)}
            link = cut_over_rate._link(slope * device)
            best = cut(graph, link=link, **nodes).value
            least = cut_over_rate._stages(corners, graph.flops, device, edge, slope * device).sum(-1).min()
            assert least == pytest.approx(best, rel=1e-9)


def test_what_the_latency_gains(table):
    """At the slope where most is said to be gained, an edge node of all but unbounded speed gains it; elsewhere
    nothing.
    """
    assert table["corners"].values.tolist() == [4, 2, 4]
    assert table["corners_on_chain"].values.tolist() == [4, 2, 3]
    np.testing.assert_allclose(table["latency_gain"].values[:2], 0, atol=1e-9)
    row = table.sel(network="shufflenet")
    nodes = {"device": Node("device", 1e9), "edge": Node("edge", 1e20)}
    nodes["link"] = cut_over_rate._link(float(row["gain_slope"]) * 1e9)
    graph = read_graph(light_path("shufflenet"))
    best = cut(graph, **nodes)
    rate = nodes["link"].mean_rate()
    chain = min(sum(option.times) + option.bits[0] / rate for option in chain_cuts(graph, single=True, **nodes))
    assert 0 < float(row["latency_gain"]) == pytest.approx(chain / best.value - 1, rel=1e-6)


def test_hull_equals_brute_force():
    rng = np.random.default_rng(1)
    points = np.column_stack([rng.integers(0, 30, 60), rng.integers(0, 30, 60)]).astype(float)
    hull = cut_over_rate._hull(points)
    for slope in 10 ** rng.uniform(-2, 2, 200):
        costs = [(group @ (1, 1 / slope)).min() for group in (points, hull)]
        assert costs[0] == pytest.approx(costs[1], rel=1e-12)
    assert (np.diff(cut_over_rate._slopes(hull)) < 0).all()


def test_drawn_and_told(table):
    assert len(cut_over_rate.draw(table).axes) == 2
    assert "+33.3 %" in cut_over_rate.tell(table)
    assert table["latency"].attrs["provenance"] == "derived from FLOP"


@pytest.mark.parametrize(
    ("change", "name"),
    [({"ratios": (0.5,)}, "ratios"), ({"rates": (0.0,)}, "rates"), ({"networks": ("lenet",)}, "name")],
)
def test_bad_input(change, name):
    with pytest.raises(ValueError, match=f"^{name}"):
        cut_over_rate.data(**change)


def test_measured_times_stand_for_flop():
    """A profile whose times are in proportion to FLOP gives what the graph gives."""
    graph = read_graph(light_path("bvlc_alexnet"))
    times = np.array([operation.flops for operation in graph.operations]) / 7e9
    profile = NetworkProfile(graph, times, times, times, [times.sum()] * 2, {}, {})
    tables = [
        cut_over_rate.data(networks={"network": network}, ratios=(4.0,), rates=(1e7, 1e8))
        for network in (graph, profile)
    ]
    for name in tables[0].data_vars:
        np.testing.assert_allclose(tables[0][name], tables[1][name], rtol=1e-9, err_msg=name)
    assert tables[1]["latency"].attrs["provenance"] == "derived from measured times"


def test_random_weights_change_no_shape():
    graph, random = read_graph(light_path("squeezenet")), read_graph(networks.light("squeezenet"))
    assert [o.flops for o in graph.operations] == [o.flops for o in random.operations]

"""The numbers of Figures 1 and 2, computed once more another way."""

from itertools import pairwise

import numpy as np
import pytest

from edgeinfer import bridge, latency, paper, simulate
from edgeinfer.bridge.exit import digits
from edgeinfer.paper import reproduction
from edgeinfer.paper.items import figure1, figure2

SCENARIO = paper.scenario()


@pytest.fixture(scope="module")
def first():
    return figure1.data(SCENARIO)


@pytest.fixture(scope="module")
def second():
    return figure2.data(SCENARIO)


def test_paths_are_the_scenarios_pipelines(first):
    made = figure1.paths(SCENARIO)
    split = latency(SCENARIO.pipelines()["split"])
    np.testing.assert_allclose(latency(made["device-edge"]).stages, split.stages)
    assert float(first["latency"].sel(collaboration="device-edge")) == pytest.approx(float(split.total))
    # On another edge node decoding takes what the edge needs for it, and the image comes down as from one edge alone.
    alone = latency(SCENARIO.pipelines()["edge_only"]).stages
    stages = latency(made["edge-edge"]).stages
    assert stages[0] + stages[2] == pytest.approx(alone[0]) and stages[3] == pytest.approx(alone[1])
    stages = latency(made["device-device"]).stages
    total = latency(SCENARIO.pipelines()["device_only"]).total
    assert stages[0] + stages[2] == pytest.approx(float(total))


def test_places_of_the_stages(first):
    for kind, stops in figure1.KINDS.items():
        chosen = first["stage_collaboration"].values == kind
        places = first["stage_place"].values[chosen].tolist()
        hops = [f"{a} to {b}" for a, b in pairwise(stops)]
        assert places[1::2] == hops and places[::2] == list(stops[:2])
        total = float(first["stage_time"].values[chosen].sum())
        assert total == pytest.approx(float(first["latency"].sel(collaboration=kind)))


def test_brackets_hold_in_simulation(first):
    for kind, pipeline in figure1.paths(SCENARIO).items():
        row = first.sel(collaboration=kind)
        found = simulate(
            pipeline, SCENARIO.arrival_rate, figure1.DEADLINE, jobs=20_000, replications=16, rng=1
        ).violation
        half = (found.high - found.low)[-1] / 2
        # Two and a half half-widths of Student's t with 15 degrees: false alarm below 1e-4 each.
        assert found.value[-1] >= float(row["violation_lower"]) - 2.5 * half - 1e-4
        assert found.value[-1] <= float(row["violation_upper"]) + 2.5 * half + 1e-4
        assert 0 <= float(row["violation_lower"]) <= float(row["violation_upper"]) <= 1


def test_figure1_is_drawn(first):
    figure = figure1.draw(first)
    texts = " ".join(text.get_text() for text in figure.axes[0].texts)
    assert all(name in texts for name in (*figure1.PLACES, *figure1.KINDS))
    assert figure1.tell(first).count("\n") == 7


def test_the_cut_between_layers(second):
    graph = bridge.read_graph(bridge.light_path(figure2.NETWORK))
    assert int(second["layer_flop"].sum()) == graph.flops
    bits = second["layer_bits"].values
    places = second["layer_place"].values
    assert int(second["cut_bits"]) == bits[int(np.argmax(places)) - 1] and bits[-1] == 1000 * 32
    # A chain: the least over its cuts is the least of all.
    input_bits = graph.tensors[graph.inputs[0]].bits
    before = np.r_[0, np.cumsum(second["layer_flop"])]
    sent = np.r_[input_bits, bits[:-1], 0]
    times = before / figure2.DEVICE.flops + sent / figure2.RATE + (graph.flops - before) / figure2.EDGE.flops
    found = second["choice_latency"]
    assert float(found.sel(choice="cut")) == pytest.approx(times.min())
    assert float(found.sel(choice="device")) == pytest.approx(times[-1])
    assert float(found.sel(choice="edge")) == pytest.approx(times[0])


def test_tiles_cover_the_input_and_overlap(second):
    starts, stops = second["tile_start"].values, second["tile_stop"].values
    # The last of Inception's first layers takes windows of 3 at stride 2 without padding: its last row may go unread.
    assert starts[0] == 0 and stops[-1] in (223, 224) and starts[1] < stops[0]
    assert 0 < float(second["halo_share"]) < 0.1


def test_messages_and_exits(second):
    network, (images, labels) = bridge.load_exits(), digits.load_data("test")
    test = network.evaluate(images, labels)
    untouched = float(test.accuracy().value)
    np.testing.assert_allclose(second["message_accuracy"] + second["message_loss"], untouched, atol=1e-12)
    # Seventeen grey levels take five bits.
    assert float(second["message_bits"].sel(message="pixels")) == 64 * 5
    assert float(second["message_bits"].sel(message="64 principal components")) == 64 * figure2.CODE_BITS
    assert float(second["exit_share"].sum()) == pytest.approx(1)
    mean = float((second["exit_share"] * second["exit_flop"]).sum()) / second.attrs["full_flop"]
    assert float(second["saving"]) == pytest.approx(1 - mean)
    assert float(second["saving"]) >= 0.3 and float(second["loss"]) <= 0.01


def test_figure2_is_drawn(second):
    figure = figure2.draw(second)
    texts = " ".join(text.get_text() for axes in figure.axes for text in axes.texts)
    assert f"{float(second['cut_bits']) / 1e6:.3g} Mbit cross" in texts
    header, row = reproduction._csv(second).decode().split("row,cut_bits")[1].splitlines()[:2]
    assert header.startswith(",halo_share") and row.startswith(f"0,{int(second['cut_bits'])},")
    told = figure2.tell(second)
    assert all(kind in told for kind in ("measured", "derived from FLOP", "derived from measured rates"))

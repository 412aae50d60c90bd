"""Cuts against brute force over all valid ones, on random graphs."""

import itertools

import numpy as np
import pytest
from scipy.optimize import linprog

from bridge import networks
from edgeinfer import (
    ConstantLink,
    MarkovLink,
    Node,
    OutageLink,
    RayleighLink,
    TraceLink,
    Transfer,
    violation_bracket,
)
from edgeinfer.bridge import (
    Graph,
    NetworkProfile,
    Operation,
    Tensor,
    best_cuts,
    candidates,
    chain_cuts,
    cut,
    read_graph,
)

GRAPHS = 300
# Costs are sums of at most some thirty float64 terms.
ROUNDING = 1e-12


def link(bandwidth):
    return RayleighLink(bandwidth, 31, -100, 128.1, 1e-3)


def random_profile(rng, most=14):
    """A random graph with random times, some zero and some tied."""
    graph = read_graph(networks.random_model(rng, int(rng.integers(1, most + 1))))
    times = rng.choice([0.0, 1e-3, *rng.exponential(3e-3, 4)], len(graph.operations))
    times[-1] = 1e-3
    # times_on scales by FLOP/s, so that a profile needs some FLOP.
    first = graph.operations[0]
    operations = (Operation(**vars(first) | {"flops": 1000}), *graph.operations[1:])
    # Sizes of their own, so that the best cut often lies within.
    sizes = {name: int(rng.exponential(2000)) + 1 for name in graph.tensors}
    tensors = {name: Tensor(name, "uint8", (bits,), 8 * bits) for name, bits in sizes.items()}
    graph = Graph(graph.name, graph.digest, operations, tensors, graph.inputs, graph.outputs)
    return NetworkProfile(graph, times, times, times, [times.sum()], {}, {})


def divisions(graph, nodes):
    """Every valid division, (m, n) places, by going through all of them."""
    places = np.array(list(itertools.product(range(nodes), repeat=len(graph.operations))), np.int8)
    valid = np.ones(len(places), bool)
    for reader, operation in enumerate(graph.operations):
        for writer, other in enumerate(graph.operations):
            if set(operation.inputs) & set(other.outputs):
                valid &= places[:, writer] <= places[:, reader]
    return places[valid]


def stage_costs(profile, nodes, links, downlinks, places):
    """Time of each stage of each division, (m, stages), by definition."""
    graph, columns = profile.graph, []
    for place, node in enumerate(nodes):
        columns.append((places == place) @ (profile.times * profile.flops_rate / node.flops))
    for hop, used in enumerate(links):
        bits = np.zeros(len(places))
        for name, tensor in graph.tensors.items():
            makers = [i for i, operation in enumerate(graph.operations) if name in operation.outputs]
            readers = [i for i, operation in enumerate(graph.operations) if name in operation.inputs]
            made = places[:, makers[0]] <= hop if makers else np.ones(len(places), bool)
            if readers:
                bits += tensor.bits * (made & (places[:, readers] > hop).any(axis=1))
        columns.append(bits / used.mean_rate())
    for hop, used in enumerate(downlinks):
        bits = np.zeros(len(places))
        for name in graph.outputs:
            maker = next(i for i, operation in enumerate(graph.operations) if name in operation.outputs)
            bits += graph.tensors[name].bits * (places[:, maker] > hop)
        columns.append(bits / used.mean_rate())
    return np.column_stack(columns)


def random_nodes(rng, profile, count):
    return [Node(f"node{i}", profile.flops_rate * 4.0**i * rng.uniform(0.5, 2)) for i in range(count)]


@pytest.mark.parametrize("seed", range(10))
def test_two_nodes_against_brute_force(seed):
    rng = np.random.default_rng(seed)
    moved = 0
    for number in range(GRAPHS // 10):
        profile = random_profile(rng)
        device, edge = nodes = random_nodes(rng, profile, 2)
        links = [link(10 ** rng.uniform(6, 8))]
        back = [link(10 ** rng.uniform(6, 8))] if rng.random() < 0.5 else []
        places = divisions(profile.graph, 2)
        costs = stage_costs(profile, nodes, links, back, places)
        arguments = {"device": device, "edge": edge, "link": links[0], "downlink": back[0] if back else None}
        best = cut(profile, **arguments)
        total = costs.sum(axis=1)
        assert best.bound == pytest.approx(total.min(), rel=ROUNDING)
        own = int(np.flatnonzero((places == best.places).all(axis=1))[0])
        assert best.bound == best.value == pytest.approx(total[own], rel=ROUNDING)
        moved += 0 < sum(best.places) < len(best.places)
        highest = 1 / costs.max(axis=1).min()
        if number % 5 == 1:
            fast = cut(profile, objective="throughput", solves=5, **arguments)
            assert fast.value <= highest * (1 + ROUNDING) and highest <= fast.bound * (1 + ROUNDING)
        if number % 5 == 0:
            fast = cut(profile, objective="throughput", solves=5000, **arguments)
            assert fast.value == pytest.approx(highest, rel=1e-8)
            assert fast.bound == pytest.approx(fast.value, rel=1e-8)
    assert moved > 1


@pytest.mark.parametrize("seed", range(6))
def test_a_chain_of_three_nodes_against_brute_force(seed):
    rng = np.random.default_rng(100 + seed)
    for _ in range(10):
        profile = random_profile(rng, most=8)
        nodes = random_nodes(rng, profile, 3)
        links = [link(10 ** rng.uniform(6, 8)) for _ in range(2)]
        back = [link(10 ** rng.uniform(6, 8)) for _ in range(2)] if rng.random() < 0.5 else []
        places = divisions(profile.graph, 3)
        costs = stage_costs(profile, nodes, links, back, places)
        arguments = {"device": nodes[0], "edge": nodes[1:], "link": links, "downlink": back or None}
        assert cut(profile, **arguments).bound == pytest.approx(costs.sum(axis=1).min(), rel=ROUNDING)
        fast = cut(profile, objective="throughput", solves=5000, **arguments)
        assert fast.value == pytest.approx(1 / costs.max(axis=1).min(), rel=1e-8)


@pytest.mark.parametrize("seed", range(3))
def test_the_best_for_every_rate_against_brute_force(seed):
    rng = np.random.default_rng(200 + seed)
    for _ in range(10):
        profile = random_profile(rng)
        nodes = random_nodes(rng, profile, 2)
        links = [link(10 ** rng.uniform(6, 8))]
        back = [link(10 ** rng.uniform(6, 8))] if rng.random() < 0.5 else []
        places = divisions(profile.graph, 2)
        costs = stage_costs(profile, nodes, links, back, places)
        found = best_cuts(profile, device=nodes[0], edge=nodes[1], link=links[0], downlink=back[0] if back else None)
        assert set(found.cuts[0].places) == {0} and (np.diff(found.rates) > 0).all()
        for slowness in 10 ** rng.uniform(-4, 4, 40):
            total = costs[:, :2].sum(axis=1) + slowness * costs[:, 2:].sum(axis=1)
            chosen = found.at(links[0].mean_rate() / slowness).places
            own = int(np.flatnonzero((places == chosen).all(axis=1))[0])
            assert total[own] == pytest.approx(total.min(), rel=1e-8)
    assert found.at(0.0).places == found.cuts[0].places
    with pytest.raises(ValueError, match="rate = nan"):
        found.at(np.nan)


def test_exact_means_lie_between_bound_and_value():
    rng = np.random.default_rng(7)
    # Slots about as long as a transfer, where its mean differs most from b / E[R].
    short = RayleighLink(1e7, 31, -100, 128.1, 1e-4)
    strict = 0
    for _ in range(8):
        profile = random_profile(rng, most=6)
        device, edge = random_nodes(rng, profile, 2)
        best = cut(profile, device=device, edge=edge, link=short, transfer="exact")
        assert best.value == best.latency
        means = [
            type(best)(profile, best.nodes, best.links, (), tuple(map(int, places))).latency
            for places in divisions(profile.graph, 2)
        ]
        assert best.bound <= min(means) <= best.value
        # The excess of a transfer over b / E[R] is below one slot for this link.
        assert best.value - best.bound <= short.slot
        strict += best.bound < min(means)
    assert strict


def test_a_tensor_that_several_read_crosses_once():
    nodes = [("Relu", ["x"], ["h"]), *(("Relu", ["h"], [f"y{i}"]) for i in range(3))]
    made = [networks.helper.make_node(kind, inputs, outputs) for kind, inputs, outputs in nodes]
    graph = read_graph(networks.model(made, {"x": [8]}, {f"y{i}": [8] for i in range(3)}))
    first = Operation(0, "a", "Relu", ("x",), ("h",), 1, 0)
    graph = Graph("g", "", (first, *graph.operations[1:]), graph.tensors, graph.inputs, graph.outputs)
    profile = NetworkProfile(graph, [1e-3] * 4, [0] * 4, [1] * 4, [4e-3], {}, {})
    device, edge = profile.node("device"), profile.node("edge", 0.1)
    options = chain_cuts(profile, device=device, edge=edge, link=link(1e5))
    assert [option.bits[0] for option in options] == [256, 256, 256, 256, 0]
    assert options[1].crossing == (("h",),)


def test_a_large_graph_against_a_linear_program():
    rng = np.random.default_rng(3)
    graph = networks.random_graph(rng, 300)
    device, edge, used = Node("device", 1e10), Node("edge", 1e12), link(1e8)
    best = cut(graph, device=device, edge=edge, link=used)
    # The relaxation is integral; HiGHS solves it to 1e-7.
    count, names = len(graph.operations), [name for name, readers in graph.consumers.items() if readers]
    work = np.array([operation.flops for operation in graph.operations], float)
    cost = np.r_[
        work / device.flops - work / edge.flops, [graph.tensors[name].bits / used.mean_rate() for name in names]
    ]
    rows = []
    for k, name in enumerate(names):
        writer = graph.producer.get(name)
        for reader in graph.consumers[name]:
            # On the device: d. Crossing >= d(writer) - d(reader) >= 0.
            cross, order = np.zeros(count + len(names)), np.zeros(count + len(names))
            cross[[reader, count + k]] = -1
            if writer is None:
                rows.append((cross, -1.0))
                continue
            cross[writer] = 1
            order[reader], order[writer] = 1, -1
            rows += [(cross, 0.0), (order, 0.0)]
    left, right = (np.array(column) for column in zip(*rows, strict=True))
    answer = linprog(cost, A_ub=left, b_ub=right, bounds=[(0, 1)] * count + [(0, None)] * len(names))
    assert 0 < sum(best.places) < count
    assert best.value == pytest.approx(answer.fun + work.sum() / edge.flops, rel=1e-6)


def test_violation_picks_among_the_candidates():
    rng = np.random.default_rng(11)
    profile = random_profile(rng)
    device, edge = random_nodes(rng, profile, 2)
    arguments = {"device": device, "edge": edge, "link": RayleighLink(3e7, 31, -100, 128.1, 1e-3)}
    deadline, rate = 2 * float(profile.totals[0]), 0.3 / float(profile.totals[0])
    timing = {"objective": "violation", "bracket": violation_bracket, "deadline": deadline, "arrival_rate": rate}
    best = cut(profile, **timing, **arguments)
    values = [
        float(violation_bracket(option.pipeline(), rate, deadline).upper) for option in candidates(profile, **arguments)
    ]
    assert best.value == min(values)
    assert best.value == float(violation_bracket(best.pipeline(), rate, deadline).upper)
    with pytest.raises(ValueError, match="bracket = None"):
        cut(profile, **timing | {"bracket": None}, **arguments)
    with pytest.raises(ValueError, match="deadline = None"):
        cut(profile, **timing | {"deadline": None}, **arguments)
    with pytest.raises(ValueError, match="arrival_rate = 0"):
        cut(profile, **timing | {"arrival_rate": 0}, **arguments)


def test_one_node_alone_beside_the_best_cut():
    rng = np.random.default_rng(12)
    profile = random_profile(rng)
    nodes, links = (profile.node("device", 4.0), profile.node("near"), profile.node("far")), (link(1e5), link(1e7))
    best = cut(profile, device=nodes[0], edge=nodes[1:], link=links, downlink=links)
    total = profile.times.sum()
    for place, (name, slowdown) in enumerate({"device": 4.0, "near": 1.0, "far": 1.0}.items()):
        found = best.alone(name)
        assert set(found.places) == {place} and np.isnan(found.value) and "nan" not in str(found)
        costs = stage_costs(profile, nodes, links, links, np.array([found.places]))[0]
        assert found.times[place] == pytest.approx(costs[place], rel=ROUNDING) == pytest.approx(total * slowdown)
        assert costs.sum() >= best.value * (1 - ROUNDING)
    with pytest.raises(ValueError, match=r"must be a Pipeline, as its `pipeline\(\)` makes one"):
        violation_bracket(best, 1.0, 1.0)
    with pytest.raises(ValueError, match="node = 'cloud': must be one of 'device', 'near', 'far'"):
        best.alone("cloud")
    tensors = {name: Tensor(name, "float32", (1,), 32) for name in "hyz"}
    tensors["x"] = Tensor("x", "str", (1,), 0, "no message carries it")
    chain = [Operation(k, f"f{k}", "Relu", (a,), (b,), 1000, 0) for k, (a, b) in enumerate(["xh", "hy"])]
    whole = cut(Graph("g", "", chain, tensors, ("x",), ("y",)), device=nodes[0], edge=nodes[1], link=links[0])
    with pytest.raises(ValueError, match="node = 'near': tensor 'x' cannot cross: no message carries it"):
        whole.alone("near")


@pytest.mark.parametrize(
    "kind",
    [ConstantLink(2e6), OutageLink(4e6, 0.5, 1e-3), TraceLink([1e6, 3e6], 1e-3), MarkovLink([2e6], [[1.0]], 1e-3)],
)
def test_links_of_each_kind_count_by_their_mean_rate(kind):
    rng = np.random.default_rng(14)
    for _ in range(10):
        profile = random_profile(rng)
        device, edge = nodes = random_nodes(rng, profile, 2)
        best = cut(profile, device=device, edge=edge, link=kind)
        costs = stage_costs(profile, nodes, [ConstantLink(2e6)], [], divisions(profile.graph, 2))
        assert best.value == pytest.approx(costs.sum(axis=1).min(), rel=ROUNDING)
        assert all(stage.link is kind for stage in best.pipeline() if isinstance(stage, Transfer))


def test_candidates_say_what_they_take():
    rng = np.random.default_rng(13)
    profile = random_profile(rng)
    device, edge = random_nodes(rng, profile, 2)
    found = candidates(profile, device=device, edge=edge, link=link(1e6))
    found += chain_cuts(profile, device=device, edge=edge, link=link(1e6))
    values = [stage_costs(profile, each.nodes, each.links, (), np.array([each.places])).sum() for each in found]
    np.testing.assert_allclose([each.value for each in found], values, rtol=ROUNDING)
    assert found[0].value == pytest.approx(cut(profile, device=device, edge=edge, link=link(1e6)).value, rel=ROUNDING)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"device": 3}, "device = 3: must be a Node"),
        ({"edge": ()}, "edge = "),
        ({"edge": Node("edge", [1.0, 2.0])}, "edge = .*: must be a Node of one rate"),
        ({"edge": Node("device", 1.0)}, "must have names that differ"),
        ({"link": ()}, "link: 0 given: must be 1"),
        (
            {"link": RayleighLink([1e6, 2e6], 31, -100, 128.1, 0.01)},
            "must be a FadingLink.* a single one without a lat",
        ),
        ({"link": ConstantLink(1e6, latency=0.1)}, "must be a FadingLink.* a single one without a latency"),
        ({"link": RayleighLink(1e-300, 0, 0, 3000, 0.01)}, "mean rate of link = 0"),
        ({"downlink": (link(1.0), link(1.0))}, "downlink: 2 given: must be 1"),
        ({"objective": "cost"}, "objective = 'cost': must be one of"),
        ({"shapes": {}}, "shapes = {}: must be left out"),
    ],
)
def test_bad_input(change, message):
    profile = random_profile(np.random.default_rng(0), most=4)
    arguments = {"device": Node("device", 1e9), "edge": Node("edge", 1e9), "link": link(1e6)}
    with pytest.raises(ValueError, match=message):
        cut(profile, **arguments | change)


def test_a_cut_prints_what_each_node_does_and_what_crosses():
    profile = random_profile(np.random.default_rng(3))
    nodes = random_nodes(np.random.default_rng(3), profile, 2)
    found = cut(profile, device=nodes[0], edge=nodes[1], link=link(1e4))
    head, *lines = str(found).splitlines()
    assert head == f"{profile.graph.name} cut for latency: {found.value:.4g} s"
    counts = [int(line.split(": ")[1].split()[0]) for line in lines[::2]]
    assert sum(counts) == len(profile.graph.operations) and f"{found.bits[0]} bit" in lines[1]

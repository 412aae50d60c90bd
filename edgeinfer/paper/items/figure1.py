"""Figure 1: a network of terminals and edge nodes with the three kinds of collaboration, each path a pipeline."""

from itertools import pairwise
from typing import Any

import numpy as np

from edgeinfer._extras import need
from edgeinfer.cell import Cell, EdgeNode, Terminals, cell_bracket, loads
from edgeinfer.delay import latency, violation_bracket
from edgeinfer.model import Compute, Node, Pipeline, RayleighLink, Transfer
from edgeinfer.paper.drawing import style
from edgeinfer.paper.scenario import Scenario

TITLE = "Figure 1: collaborations in an edge network"
PAPER = (
    "The paper draws terminals and edge nodes, and three collaborations: between edge nodes, between edge node "
    "and terminal, and between terminals."
)
HERE = (
    "Here each drawn path is a pipeline of the paper's cascade, with its unloaded latency and its violation "
    "probability, computed, alone and in the cell in which two paths share edge node 1. Nodes, downlink and "
    "costs are the scenario's; the links between edge nodes and between terminals, on which the paper says "
    "nothing, are assumed."
)
#: Assumed: Hz, dBm, dB. A point-to-point link between edge nodes, and a terminal's transmitter 100 m from another
#: terminal (148 + 40 log10 of the distance in km).
BACKHAUL = {"bandwidth": 100e6, "tx_power_dbm": 31.0, "path_loss_db": 110.0}
SIDELINK = {"bandwidth": 10e6, "tx_power_dbm": 23.0, "path_loss_db": 108.0}
#: Assumed, s.
DEADLINE = 6.0
#: Where each node is drawn.
PLACES = {
    "edge node 1": (1.6, 2.0),
    "edge node 2": (5.0, 2.0),
    "terminal 1": (0.4, 0.0),
    "terminal 2": (5.8, 0.0),
    "terminal 3": (2.2, 0.0),
    "terminal 4": (4.0, 0.0),
}
#: Links that a terminal has without using them on a path.
ATTACHED = (("edge node 1", "terminal 3"), ("edge node 2", "terminal 4"))
KINDS = {
    "device-edge": ("edge node 1", "terminal 1"),
    "edge-edge": ("edge node 1", "edge node 2", "terminal 2"),
    "device-device": ("terminal 3", "terminal 4"),
}
COLOURS = {"device-edge": style.BLUE, "edge-edge": style.ORANGE, "device-device": style.GREEN}


def paths(scenario: Scenario) -> dict[str, Pipeline]:
    """The collaborations' pipelines: prior on the first node of a path, decoding on the second.

    Where the second is an edge node, the image goes down to the terminal; where it is a terminal, it is there already.

    Parameters
    ----------
    scenario : Scenario

    Returns
    -------
    dict of str to Pipeline
        By the names of `KINDS`; computing stages on nodes of `PLACES`.

    Examples
    --------
    >>> from edgeinfer import paper
    >>> [len(pipeline) for pipeline in paths(paper.scenario()).values()]
    [3, 4, 3]
    """
    cascade = scenario.cascade
    prior = cascade.encoder + cascade.prior_step * scenario.prior_steps
    decode = cascade.feature + cascade.decode_step * scenario.decode_steps
    nodes = {
        name: Node(name, scenario.edge_flops if name.startswith("edge") else scenario.device_flops) for name in PLACES
    }
    answer = {}
    for kind, stops in KINDS.items():
        first, second = stops[:2]
        stages: list[Any] = [
            Compute(prior, nodes[first], "prior"),
            Transfer(cascade.latent_bits, _link(scenario, first, second), "latent"),
            Compute(decode, nodes[second], "decode"),
        ]
        if len(stops) > 2:
            stages.append(Transfer(cascade.image_bits, _link(scenario, second, stops[2]), "image"))
        answer[kind] = Pipeline(stages)
    return answer


def cell(scenario: Scenario) -> Cell:
    """The drawn network: a class of one terminal for each path, edge node 1 the shared edge.

    Parameters
    ----------
    scenario : Scenario

    Examples
    --------
    >>> from edgeinfer import paper
    >>> round(loads(cell(paper.scenario()))["edge"], 2)
    0.63
    """
    kinds = tuple(
        Terminals(1, scenario.arrival_rate, pipeline, edge=0 if KINDS[kind][0] == "edge node 1" else None, name=kind)
        for kind, pipeline in paths(scenario).items()
    )
    return Cell(kinds, (EdgeNode(),))


def _link(scenario: Scenario, one: str, other: str) -> RayleighLink:
    if one.startswith("edge") != other.startswith("edge"):
        return scenario.link
    return scenario.replace(**(BACKHAUL if one.startswith("edge") else SIDELINK)).link


def data(scenario: Scenario) -> Any:
    """Latency, load and violation bracket of each path, and its stages.

    Parameters
    ----------
    scenario : Scenario
        A single one (scalars).

    Returns
    -------
    xarray.Dataset
        Over collaboration: `latency`, s, unloaded, the exact mean; `load` of the busiest stage at the scenario's
        arrival rate; `violation_lower`, `violation_upper` at the deadline, alone, and `cell_lower`, `cell_upper` with
        the others in the cell, whose `edge_load` is an attribute. Over stage: `stage_collaboration`, `stage_name`,
        `stage_place` (a node, or the two ends of a link), `stage_time`, s.
    """
    pipelines = paths(scenario)
    rows, columns = [], []
    network = cell(scenario)
    for kind, pipeline in pipelines.items():
        means = latency(pipeline).stages
        bracket = violation_bracket(pipeline, scenario.arrival_rate, DEADLINE)
        shared = cell_bracket(network, DEADLINE, kind)
        ends = (float(end) for end in (bracket.lower, bracket.upper, shared.lower, shared.upper))
        columns.append((means.sum(), scenario.arrival_rate * means.max(), *ends))
        hops = iter(pairwise(KINDS[kind]))
        for stage, mean in zip(pipeline, means, strict=True):
            place = stage.node.name if isinstance(stage, Compute) else " to ".join(next(hops))
            rows.append((kind, stage.name, place, float(mean)))
    derived = {"provenance": "derived"}
    names = {"latency": "s", "load": "1", "violation_lower": "1", "violation_upper": "1"}
    names |= {"cell_lower": "1", "cell_upper": "1"}
    variables: dict[str, Any] = {
        name: ("collaboration", [column[i] for column in columns], {"units": unit} | derived)
        for i, (name, unit) in enumerate(names.items())
    }
    for i, name in enumerate(("collaboration", "name", "place")):
        variables[f"stage_{name}"] = ("stage", [row[i] for row in rows])
    variables["stage_time"] = ("stage", [row[3] for row in rows], {"units": "s"} | derived)
    assumed = {
        f"{where}_{k}": v for where, link in (("backhaul", BACKHAUL), ("sidelink", SIDELINK)) for k, v in link.items()
    }
    return need("xarray", "study").Dataset(
        variables,
        coords={"collaboration": list(pipelines)},
        attrs={
            "edge_load": loads(network)["edge"],
            "deadline": DEADLINE,
            "arrival_rate": scenario.arrival_rate,
            "assumed": "deadline, backhaul, sidelink",
        }
        | assumed,
    )


@style.drawing
def draw(table: Any) -> Any:
    """Edge nodes above, terminals below; a path's stages stand along its arrows, what it costs beneath."""
    figure, axes = style.subplots(size=(11.3, 6.0))
    for one, other in ATTACHED:
        (x, y), (u, v) = PLACES[one], PLACES[other]
        axes.plot([x, u], [y, v], color="0.8", linewidth=1, zorder=0)
    work: dict[str, list[tuple[str, str]]] = {name: [] for name in PLACES}
    stages = zip(*(table[f"stage_{n}"].values for n in ("collaboration", "name", "place", "time")), strict=True)
    for kind, name, place, time in stages:
        label = f"{name} {time:.3g} s"
        if place in work:
            work[place].append((kind, label))
            continue
        (x, y), (u, v) = (PLACES[end] for end in place.split(" to "))
        shrink = 44 if y == v else 20
        arrow = {"arrowstyle": "-|>", "lw": 2, "color": COLOURS[kind], "shrinkA": shrink, "shrinkB": shrink}
        axes.annotate("", (u, v), (x, y), arrowprops=arrow)
        raised = 0.12 if y == v else 0.0
        axes.text(
            (x + u) / 2 + (0 if raised else 0.12),
            (y + v) / 2 + raised,
            label,
            fontsize=8.5,
            color=COLOURS[kind],
            ha="center" if raised else "left",
        )
    for name, (x, y) in PLACES.items():
        tone = "#e8eef6" if name.startswith("edge") else "#fbeee2"
        frame = {"boxstyle": "round,pad=0.5" if name.startswith("edge") else "round4,pad=0.5", "fc": tone, "ec": "0.4"}
        axes.text(x, y, name, ha="center", va="center", fontsize=10, bbox=frame)
        for line, (kind, label) in enumerate(work[name]):
            side = 0.34 if y else -0.34
            axes.text(
                x,
                y + side + np.sign(side) * 0.2 * line,
                label,
                ha="center",
                va="center",
                fontsize=8.5,
                color=COLOURS[kind],
            )
    for number, kind in enumerate(table["collaboration"].values):
        row = table.sel(collaboration=kind)
        text = (
            f"{kind}\nlatency {float(row['latency']):.3f} s unloaded, busiest stage {100 * float(row['load']):.0f} %\n"
            f"P(sojourn > {table.attrs['deadline']:g} s) alone in {float(row['violation_lower']):.3g} .. "
            f"{float(row['violation_upper']):.3g},\nin the cell in {float(row['cell_lower']):.3g} .. "
            f"{float(row['cell_upper']):.3g}"
        )
        axes.text(-0.4 + 2.45 * number, -0.95, text, fontsize=8.5, color=COLOURS[kind], va="top", linespacing=1.5)
    axes.set_title(
        f"{table.attrs['arrival_rate']:g} requests/s on each path, edge node 1 shared by two of them, busy "
        f"{100 * table.attrs['edge_load']:.0f} %; times derived, nodes and links given and assumed",
        fontsize=10,
    )
    axes.set_xlim(-0.5, 6.9)
    axes.set_ylim(-1.95, 2.75)
    axes.axis("off")
    return figure


def tell(table: Any) -> str:
    """A row for each collaboration."""
    lines = [
        f"**derived; deadline {table.attrs['deadline']:g} s and the links between edge nodes and between terminals "
        f"assumed**",
        "",
        "| collaboration | stages | latency (s) | busiest stage | violation probability alone | in the cell |",
        "|---|---|---|---|---|---|",
    ]
    for kind in table["collaboration"].values:
        row = table.sel(collaboration=kind)
        chosen = table["stage_collaboration"].values == kind
        stages = "; ".join(
            f"{name}, {place}: {time:.3g} s"
            for name, place, time in zip(
                *(table[f"stage_{n}"].values[chosen] for n in ("name", "place", "time")), strict=True
            )
        )
        lines.append(
            f"| {kind} | {stages} | {float(row['latency']):.3f} | {100 * float(row['load']):.0f} % | "
            f"{float(row['violation_lower']):.4g} .. {float(row['violation_upper']):.4g} | "
            f"{float(row['cell_lower']):.4g} .. {float(row['cell_upper']):.4g} |"
        )
    return "\n".join(lines) + "\n"

"""A network drawn as its graph, with the cut through it."""

from typing import TYPE_CHECKING, Any

import numpy as np

from edgeinfer.paper.drawing import style

if TYPE_CHECKING:
    from edgeinfer.bridge import Cut

#: Colours along the chain of nodes.
PLACES = (style.GREEN, style.ORANGE, style.BLUE, style.PURPLE)


def draw(cut: "Cut") -> Any:
    """The operations in layers by depth, coloured by the node they run on; what crosses a link is drawn thick.

    Parameters
    ----------
    cut : Cut

    Returns
    -------
    matplotlib Figure
    """
    graph = cut.graph
    depth: list[int] = []
    for operation in graph.operations:
        before = [depth[graph.producer[name]] for name in operation.inputs if name in graph.producer]
        depth.append(1 + max(before, default=0))
    rows: dict[int, int] = {}
    height = np.zeros(len(depth))
    for i, layer in enumerate(depth):
        height[i] = rows.get(layer, 0)
        rows[layer] = rows.get(layer, 0) + 1
    height -= [(rows[layer] - 1) / 2 for layer in depth]
    figure, axes = style.subplots(size=(11, 3.6))
    moved = {name for names in cut.crossing for name in names}
    for name, readers in graph.consumers.items():
        writer = graph.producer.get(name)
        start = (0.0, 0.0) if writer is None else (depth[writer], height[writer])
        for reader in readers:
            crosses = name in moved and cut.places[reader] > (0 if writer is None else cut.places[writer])
            colour, width = ("black", 1.6) if crosses else ("0.75", 0.6)
            axes.plot([start[0], depth[reader]], [start[1], height[reader]], color=colour, linewidth=width, zorder=1)
    axes.plot([0] * len(graph.inputs), [0] * len(graph.inputs), "s", color="black", markersize=4, label="input")
    places = np.array(cut.places)
    for place, (node, time) in enumerate(zip(cut.nodes, cut.times, strict=True)):
        chosen = places == place
        label = f"{node.name}: {chosen.sum()} operations, {time * 1e3:.3g} ms"
        colour = PLACES[place % len(PLACES)]
        axes.scatter(np.array(depth)[chosen], height[chosen], s=14, color=colour, zorder=2, label=label)
    crossing = ", ".join(f"{bits / 1e6:.3g} Mbit" for bits in cut.bits)
    axes.set_title(f"{graph.name}: {crossing} across the cut", fontsize=10)
    axes.set_xlabel("depth (operations)")
    axes.set_yticks([])
    style.legend_below(figure, columns=1 + len(cut.nodes))
    return figure

"""Figure 2: techniques of discriminative inference, each drawn with what it does to a real network."""

from functools import partial
from typing import Any

import numpy as np

from edgeinfer import bridge
from edgeinfer._extras import need
from edgeinfer.bridge.exit import digits as digits_data
from edgeinfer.model import Node
from edgeinfer.paper.drawing import style
from edgeinfer.paper.items import tiles
from edgeinfer.paper.measured.exits import ACCURACY_LOSS
from edgeinfer.paper.scenario import Scenario

TITLE = "Figure 2: model partition, information compression and early exit"
PAPER = "The paper names the techniques and gives no numbers."
HERE = (
    "Here each is drawn from a real network: AlexNet's shapes cut between layers (derived from FLOP, at assumed "
    "speeds), the first layers of Inception divided into tiles (halos derived, speed-up predicted and measured on "
    "two worker processes), and a trained classifier of digits whose features are compressed and whose inputs "
    "leave early (measured on held-out images)."
)
#: Assumed, for the cut between layers.
DEVICE, EDGE, RATE = Node("device", 1e10), Node("edge", 16e10), 50e6
NETWORK, TILED = "bvlc_alexnet", "inception_v1"
#: Bits of a value behind Lloyd-Max's quantiser, and what is done before it to the 16 channels of 8 x 8 features.
CODE_BITS = 2
CODECS = {
    name: f"{code} lloyd_max {CODE_BITS} zstd"
    for name, code in {
        "all channels": "plain 1024",
        "12 channels by energy": "energy 12",
        "12 by attention": "attention 12",
        "12 by mutual information": "mutual_information 12",
        "64 principal components": "pca 64",
        "autoencoder, 32 values": "autoencoder 32",
    }.items()
}
#: Kinds of operations that are drawn; the others belong to the one before.
_LAYERS = ("Conv", "Gemm", "MaxPool")


def data(scenario: Scenario) -> Any:
    """The numbers of the four panels.

    Parameters
    ----------
    scenario : Scenario
        Its link but for the bandwidth.

    Returns
    -------
    xarray.Dataset
        Over layer (AlexNet's, operations without a window counted with the one before): `layer_flop`, `layer_bits` of
        what it gives, `layer_place`. Over choice (cut, device, edge): `choice_latency`, s. Over tile: `tile_start`,
        `tile_stop`, rows of the input that it reads. Over message, `CODECS` and the input sent whole: `message_bits`,
        `message_accuracy`, `message_loss`. Over exit: `exit_share`, `exit_flop`, `exit_accuracy` of all inputs there.
        Scalars: `cut_bits`, `halo_share`, `predicted_speed_up`, `speed_up` with `_low` and `_high`, `saving`, `loss`
        with theirs.
    """
    derived = {"provenance": "derived from FLOP"}
    measured = {"provenance": "measured"}
    variables: dict[str, Any] = _between_layers(scenario, derived)
    variables |= _tiles()
    network, (images, labels) = bridge.load_exits(), digits_data.load_data("test")
    codecs = bridge.standard_codecs(network, *digits_data.load_data("train"), bits=(CODE_BITS,))
    points = bridge.rate_accuracy(network, {name: codecs[code] for name, code in CODECS.items()}, images, labels)
    points += bridge.offload(network, images, labels, levels=digits_data.LEVELS, qualities=(50,))
    for name, unit in (("bits", "bit"), ("accuracy", "1"), ("loss", "1")):
        values = [getattr(point, name).value for point in points]
        variables[f"message_{name}"] = ("message", values, {"units": unit} | measured)
    validation, test = (network.evaluate(*digits_data.load_data(part)) for part in ("validation", "test"))
    rule = bridge.calibrate(validation, accuracy_loss=ACCURACY_LOSS)
    exits = rule.exits(test.probabilities)
    shares = np.bincount(exits, minlength=len(test.costs)) / len(exits)
    variables["exit_share"] = ("exit", shares, {"units": "1"} | measured)
    variables["exit_accuracy"] = ("exit", test.correct.mean(axis=1), {"units": "1"} | measured)
    variables["exit_flop"] = ("exit", test.costs, {"units": "FLOP"} | derived)
    for name, estimate in (("saving", test.saving(rule)), ("loss", test.loss(rule))):
        for suffix, value in (("", estimate.value), ("_low", estimate.low), ("_high", estimate.high)):
            variables[name + suffix] = ((), float(value), {"units": "1"} | measured)
    return need("xarray", "study").Dataset(
        variables,
        coords={"message": [point.name for point in points], "choice": ["cut", "device", "edge"]},
        attrs={
            "float32_bits": 32 * int(np.prod(codecs[CODECS["all channels"]].shape)),
            "full_flop": test.full_cost,
            "device_flops": DEVICE.flops,
            "edge_flops": EDGE.flops,
            "rate": RATE,
            "speeds_provenance": "assumed",
        },
    )


def _between_layers(scenario: Scenario, derived: dict[str, str]) -> dict[str, Any]:
    graph = bridge.read_graph(bridge.light_path(NETWORK))
    link = scenario.link.at_rate(RATE)
    best = bridge.cut(graph, device=DEVICE, edge=EDGE, link=link)
    layers: list[list[Any]] = []
    for operation, place in zip(graph.operations, best.places, strict=True):
        if operation.kind in _LAYERS or not layers:
            layers.append([0, 0, place])
        layers[-1][0] += operation.flops
        layers[-1][1] = graph.tensors[operation.outputs[0]].bits
        layers[-1][2] = max(layers[-1][2], place)
    flops, bits, places = zip(*layers, strict=True)
    sent = graph.tensors[graph.inputs[0]].bits / RATE
    latencies = [best.value, graph.flops / DEVICE.flops, sent + graph.flops / EDGE.flops]
    return {
        "layer_flop": ("layer", list(flops), {"units": "FLOP"} | derived),
        "layer_bits": ("layer", list(bits), {"units": "bit"} | derived),
        "layer_place": ("layer", list(places), {"long_name": "0 device, 1 edge"} | derived),
        "choice_latency": ("choice", latencies, {"units": "s"} | derived),
        "cut_bits": ((), best.bits[0], {"units": "bit"} | derived),
    }


def _tiles() -> dict[str, Any]:
    timed = tiles.data()
    rows = [number for number, name in enumerate(timed["layers"].values) if name.startswith(TILED)]
    row = timed.isel(division=rows[0])
    model = bridge.light_model(TILED)
    graph = bridge.read_graph(model)
    longest = max(bridge.tileable_runs(graph), key=lambda run: sum(graph.operations[i].flops or 0 for i in run))
    tiling = bridge.spatial_tiles(model, longest, timed.attrs["workers"])
    starts, stops = zip(*(tile.source[2] for tile in tiling.tiles), strict=True)
    derived = {"units": "1", "provenance": "derived from FLOP"}
    variables: dict[str, Any] = {
        "tile_start": ("tile", list(starts), derived),
        "tile_stop": ("tile", list(stops), derived),
        "halo_share": ((), tiling.redundant_flops / tiling.flops, derived),
    }
    for name in ("predicted_speed_up", "speed_up", "speed_up_low", "speed_up_high"):
        variables[name] = ((), float(row[name]), row[name].attrs)
    return variables


@partial(style.drawing, text=8)
def draw(table: Any) -> Any:
    """Between layers and within them above; compression and early exit below."""
    figure, panels = style.subplots(2, 2, size=(9.3, 7.8), width_ratios=(1.1, 1))
    _draw_layers(panels[0, 0], table)
    _draw_tiles(panels[0, 1], table)
    _draw_compression(panels[1, 0], table)
    _draw_exits(panels[1, 1], table)
    return figure


_TONES = ("#fbeee2", "#e8eef6")


def _box(axes: Any, x: float, y: float, width: float, height: float, tone: str) -> None:
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((x, y), width, height, facecolor=tone, edgecolor="0.4"))


def _draw_layers(axes: Any, table: Any) -> None:
    flops, bits = table["layer_flop"].values / 1e6, table["layer_bits"].values / 1e6
    places = table["layer_place"].values
    count = len(flops)
    height = 0.3 + 0.9 * np.sqrt(bits / bits.max())
    for i in range(count):
        _box(axes, i + 0.1, -height[i] / 2, 0.62, height[i], _TONES[places[i]])
        axes.text(i + 0.41, 0, f"{flops[i]:.0f}", ha="center", va="center", fontsize=7, rotation=90)
        axes.text(i + 0.91, -0.84, f"{bits[i]:.2g}", ha="center", fontsize=7, color="0.35")
    first = int(np.argmax(places)) if places.any() else count
    axes.plot([first - 0.09] * 2, [-0.72, 0.88], color=style.ORANGE, linestyle="--", linewidth=1.6)
    axes.text(first, 0.78, f"{float(table['cut_bits']) / 1e6:.3g} Mbit cross", color=style.ORANGE, fontsize=9)
    axes.text(-0.1, -0.98, "Mbit behind each layer below, MFLOP inside", fontsize=7.5, color="0.35")
    latency = {name: 1e3 * float(table["choice_latency"].sel(choice=name)) for name in table["choice"].values}
    axes.text(
        -0.1,
        1.02,
        f"cut {latency['cut']:.0f} ms, all on the device {latency['device']:.0f} ms, "
        f"all on the edge {latency['edge']:.0f} ms (derived)",
        fontsize=8,
    )
    axes.set_title(
        f"Partition between layers: AlexNet,\n{table.attrs['device_flops'] / 1e9:g} and "
        f"{table.attrs['edge_flops'] / 1e9:g} GFLOP/s, {table.attrs['rate'] / 1e6:g} Mbit/s (assumed)",
        fontsize=9,
    )
    axes.set_xlim(-0.2, count + 0.2)
    axes.set_ylim(-1.05, 1.15)
    axes.axis("off")


def _draw_tiles(axes: Any, table: Any) -> None:
    starts, stops = table["tile_start"].values, table["tile_stop"].values
    side = int(stops.max())
    for number, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        x = number * 1.5 * side
        _box(axes, x, 0, side, side, "0.97")
        _box(axes, x, start, side, stop - start, _TONES[1 - number % 2])
        for other in (n for n in range(len(starts)) if n != number):
            low, high = max(start, starts[other]), min(stop, stops[other])
            if high > low:
                _box(axes, x, low, side, high - low, "#f3c9a5")
        axes.text(x, -0.03 * side, f"worker {number + 1}: rows {start} to {stop - 1}", fontsize=8, va="bottom")
    wide = (1.5 * (len(starts) - 1) + 1) * side
    lines = [
        f"halo (shaded): +{100 * float(table['halo_share']):.1f} % FLOP (derived)",
        f"speed-up predicted {float(table['predicted_speed_up']):.2f}, measured {float(table['speed_up']):.2f} "
        f"[{float(table['speed_up_low']):.2f}, {float(table['speed_up_high']):.2f}]",
    ]
    axes.text(0, 1.06 * side, "\n".join(lines), va="top")
    axes.set_title("Partition within layers:\nthe first ten of Inception in two tiles", fontsize=9)
    axes.set_xlim(-0.05 * side, wide + 0.05 * side)
    axes.set_ylim(1.3 * side, -0.15 * side)
    axes.set_aspect("equal")
    axes.axis("off")


def _draw_compression(axes: Any, table: Any) -> None:
    bits, full = table["message_bits"].values, table.attrs["float32_bits"]
    order = np.argsort(bits)
    at = np.arange(len(bits) + 1)
    colours = [style.BLUE if name in CODECS else style.ORANGE for name in table["message"].values[order]]
    axes.barh(at, [*bits[order], full], color=[*colours, "0.75"])
    accuracies = 100 * table["message_accuracy"].values[order]
    notes = [f"{b:.0f} bit, accuracy {a:.1f} %" for b, a in zip(bits[order], accuracies, strict=True)]
    for place, value, note in zip(at, [*bits[order], full], [*notes, f"{full} bit"], strict=True):
        axes.text(value * 1.1, place, note, fontsize=8, va="center")
    names = [f"input as {name}" if name not in CODECS else name for name in table["message"].values[order]]
    axes.set_yticks(at, [*names, "float32 features"], fontsize=8)
    axes.set_xscale("log")
    axes.set_xlim(bits.min() / 2, full * 300)
    axes.set_xlabel(f"bits a request, {CODE_BITS} a value and zstd (measured)")
    axes.set_title("Information compression:\nfeatures of digits, or the input itself", fontsize=9)


def _draw_exits(axes: Any, table: Any) -> None:
    shares, flops = 100 * table["exit_share"].values, table["exit_flop"].values / table.attrs["full_flop"]
    arrow = {"arrowstyle": "->", "lw": 1.2}
    for number, (share, flop) in enumerate(zip(shares, flops, strict=True)):
        x = 1.5 * number
        _box(axes, x, 0.3, 0.9, 0.5, _TONES[1])
        axes.text(x + 0.45, 0.55, f"segment {number + 1}", ha="center", va="center", fontsize=8)
        axes.annotate("", (x, 0.55), (x - 0.6, 0.55), arrowprops=arrow)
        axes.annotate(
            "", (x + 0.45, -0.12), (x + 0.45, 0.3), arrowprops=arrow | {"lw": 0.5 + share / 15, "color": style.ORANGE}
        )
        accuracy = 100 * float(table["exit_accuracy"].values[number])
        text = f"{share:.1f} % leave\nafter {100 * flop:.0f} %\nof the FLOP\n(all: {accuracy:.1f} %\nright)"
        axes.text(x + 0.45, -0.17, text, ha="center", va="top", fontsize=8)
    cells = {
        name: f"{100 * float(table[name]):.1f} % [{100 * float(table[name + '_low']):.1f}, "
        f"{100 * float(table[name + '_high']):.1f}]"
        for name in ("saving", "loss")
    }
    axes.text(-0.6, 1.05, f"mean FLOP saved {cells['saving']},\naccuracy lost {cells['loss']} (measured)", fontsize=8)
    axes.set_title("Early exit: digits", fontsize=9)
    axes.set_xlim(-0.65, 1.5 * len(shares))
    axes.set_ylim(-0.9, 1.2)
    axes.axis("off")


def tell(table: Any) -> str:
    """The drawing's numbers and where each comes from."""
    rows = [
        (
            "latency of AlexNet cut, all on the device, all on the edge",
            ", ".join(f"{1e3 * v:.1f}" for v in table["choice_latency"].values) + " ms",
            "choice_latency",
        ),
        ("bits across that cut", f"{float(table['cut_bits']) / 1e6:.3g} Mbit", "cut_bits"),
        (
            "FLOP computed twice in two tiles of Inception's first layers",
            f"{100 * float(table['halo_share']):.2f} %",
            "halo_share",
        ),
        ("speed-up of two workers, predicted", f"{float(table['predicted_speed_up']):.2f}", "predicted_speed_up"),
        (
            "speed-up of two workers, measured",
            f"{float(table['speed_up']):.2f} [{float(table['speed_up_low']):.2f}, {float(table['speed_up_high']):.2f}]",
            "speed_up",
        ),
        *(
            (
                f"bits a request, {name}, and accuracy",
                f"{float(table['message_bits'].sel(message=name)):.0f} of {table.attrs['float32_bits']}, "
                f"{100 * float(table['message_accuracy'].sel(message=name)):.1f} %",
                "message_bits",
            )
            for name in CODECS
        ),
        (
            "mean FLOP saved by early exits",
            f"{100 * float(table['saving']):.1f} % [{100 * float(table['saving_low']):.1f}, "
            f"{100 * float(table['saving_high']):.1f}]",
            "saving",
        ),
        (
            "accuracy lost by them",
            f"{100 * float(table['loss']):.2f} % [{100 * float(table['loss_low']):.2f}, "
            f"{100 * float(table['loss_high']):.2f}]",
            "loss",
        ),
    ]
    lines = ["| what | value | |", "|---|---|---|"]
    lines += [f"| {what} | {value} | {table[name].attrs['provenance']} |" for what, value, name in rows]
    return "\n".join(lines) + "\n"

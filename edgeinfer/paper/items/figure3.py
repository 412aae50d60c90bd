"""Figure 3: one subject, three strategies, as they ran; where each wins; what their pictures and seeds are worth."""

import base64
import io
import json
from typing import Any

import numpy as np

from edgeinfer._extras import need
from edgeinfer.estimates import proportions
from edgeinfer.paper.drawing import style
from edgeinfer.paper.measured import store

TITLE = "Figure 3: one subject, three strategies"
PAPER = (
    "The paper draws three ways in which models of a device and an edge work on one subject: the device makes the seed "
    "and the edge generates, the edge makes the seed and the device generates, or seeds alone cross both ways."
)
HERE = (
    "Here they are recorded runs of the shipped networks as processes over shaped Rayleigh links: a picture and a "
    "sentence that edits it. The map below says where each has the least probability of missing a deadline, decided by "
    "certified brackets of pipelines made of the measured times and bytes; link rates, device speeds, arrivals and the "
    "deadline are assumed."
)
COLOURS = {"device_side": style.ORANGE, "edge_side": style.GREEN, "collaborative": style.BLUE}
NAMES = {"device_side": "device-side", "edge_side": "edge-side", "collaborative": "collaborative"}
WAYS = {**NAMES, "all_on_edge": "all on the edge"}
#: What is to be reached: share of requests right, loss against all on the edge, bytes of seeds, worst centre, px.
RIGHT, LOSS, SEED_BYTES, CENTRE = 0.95, {"device_side": 0.01, "collaborative": 0.02}, 32, 2.0
_ROLES = {"interpreter": "reads", "painter": "paints", "mapper": "maps to a latent", "checker": "checks"}


def data(*, measured: Any = None) -> Any:
    """What `edgeinfer measure --only one_subject` wrote, with shares and intervals.

    Parameters
    ----------
    measured : xarray.Dataset, optional
        What `one_subject.measure` writes; the one that ships by default.

    Returns
    -------
    xarray.Dataset
        With, over (kind, way), `right_share`, of requests all of whose attributes the referee finds, and `loss`, all on
        the edge less this way, paired by request, both with 95 % intervals; `within`, the share of edits whose worst
        centre is off by at most `CENTRE`, over way; `damaged_share` over damage; and `early_share` over steps before
        the rest of a latent is there. Attributes `flow_*` are the recorded runs, JSON.
    """
    table = store.load("one_subject", "edgeinfer measure --only one_subject") if measured is None else measured
    kinds, ways = table["kind"].values, table["way"].values
    shares, losses = np.empty((len(kinds), len(ways), 3)), np.empty((len(kinds), len(ways), 3))
    for i, kind in enumerate(kinds):
        whole = table["right"].sel(kind=kind, way="all_on_edge").values > 0
        for j, way in enumerate(ways):
            right = table["right"].sel(kind=kind, way=way).values > 0
            share, loss = proportions.proportion(right), proportions.paired_difference(whole, right)
            shares[i, j], losses[i, j] = ([each.value, each.low, each.high] for each in (share, loss))
    near = table["centre_error"].sel(kind="edit").values <= CENTRE
    within = [proportions.proportion(column) for column in near.T]
    hits = [proportions.proportion(column > 0) for column in table["damaged_right"].values.T]
    early = [proportions.proportion(column > 0) for column in table["early_right"].values.T]
    kept = {"units": "1", "provenance": "measured"}
    for number, end in enumerate(("", "_low", "_high")):
        name = ("value", "low", "high")[number]
        table[f"right_share{end}"] = (("kind", "way"), shares[..., number], kept)
        table[f"loss{end}"] = (("kind", "way"), losses[..., number], kept)
        table[f"within{end}"] = ("way", [getattr(each, name) for each in within], kept)
        table[f"early_share{end}"] = ("steps_before", [getattr(each, name) for each in early], kept)
        table[f"damaged_share{end}"] = ("damage", [getattr(each, name) for each in hits], kept)
    return table


def flows(table: Any) -> dict[str, Any]:
    """The recorded runs by strategy: "session", "link" (s, from the first to the last byte each way), "before" and
    "after" (PNG, base 64).
    """
    return {name: json.loads(table.attrs[f"flow_{name}"]) for name in NAMES}


@style.drawing
def draw(table: Any) -> Any:
    """Above, each run: the device on the left, the edge on the right. Below, where each strategy wins."""
    slow = table["slowdown"].values
    figure, axes = style.subplots(2, 3, size=(10.6, 9.0), height_ratios=(1.1, 1))
    for panel, (name, flow) in zip(axes[0], flows(table).items(), strict=True):
        _draw_flow(panel, name, flow)
    for panel, device in zip(axes[1], slow, strict=False):
        _draw_map(panel, table.sel(slowdown=device))
    axes[1, 0].set_ylabel("mean rate of the uplink (bit/s)")
    from matplotlib.patches import Patch

    handles = [Patch(color=COLOURS[name], label=NAMES[name]) for name in NAMES]
    handles += [Patch(color="#bbbbbb", label="brackets do not tell"), Patch(color="#f0f0f0", label="none in time")]
    style.legend_below(figure, handles, columns=5, size=9)
    return figure


def _draw_flow(axes: Any, name: str, flow: dict[str, Any]) -> None:
    """What happens in turn, from top to bottom: agents as boxes at their places, messages as arrows."""
    session, link = flow["session"], flow["link"]
    crossing = [(link[said["direction"]][0], "says", said) for said in session["messages"] if said["direction"]]
    # An agent of the edge begins when the message has come.
    working = [
        (link["up"][1] if step["place"] == "edge" else step["begin"], "works", step) for step in session["steps"]
    ]
    rows = sorted([*crossing, *working], key=lambda row: row[0])
    for x, place in ((0.0, "device"), (1.0, "edge")):
        axes.plot([x, x], [-0.6, len(rows) - 0.4], color="0.75", linewidth=1, zorder=0)
        axes.text(x, -0.75, place, ha="center", va="bottom", fontsize=9.5)
    for row, (_, what, of) in enumerate(rows):
        if what == "works":
            label = f"{_ROLES[of['role']]}\n{1e3 * of['seconds']:.0f} ms"
            frame = {"boxstyle": "round,pad=0.35", "fc": COLOURS[name], "ec": "none"}
            axes.text(
                float(of["place"] == "edge"),
                row,
                label,
                ha="center",
                va="center",
                fontsize=8,
                color="white",
                bbox=frame,
            )
            continue
        up, (begin, end) = of["direction"] == "up", link[of["direction"]]
        ends = [(0.0, row - 0.15), (1.0, row + 0.15)] if up else [(1.0, row - 0.15), (0.0, row + 0.15)]
        axes.annotate("", ends[1], ends[0], arrowprops={"arrowstyle": "-|>", "lw": 1.5, "color": "0.25"})
        raw = f" ({of['raw_bytes']} B raw)" if of["raw_bytes"] != of["bytes"] else ""
        text = f"{of['kind']}, {of['bytes']} B{raw}, {1e3 * (end - begin):.0f} ms"
        axes.text(0.5, row - 0.16, text, ha="center", va="bottom", fontsize=8, backgroundcolor="white", zorder=1)
    for key, height in (("before", 0.0), ("after", len(rows) - 1.0)):
        _draw_picture(axes, flow[key], height)
    sizes = f"{session['up_bytes']} B up, {session['down_bytes']} B down"
    axes.set_title(f"{NAMES[name]}: {sizes}, {1e3 * session['seconds']:.0f} ms", fontsize=10)
    axes.set_xlim(-0.7, 1.3)
    axes.set_ylim(len(rows) - 0.2, -1.2)
    axes.axis("off")


def _draw_picture(axes: Any, picture: str, height: float) -> None:
    """A PNG, in base 64, on the left."""
    file = io.BytesIO(base64.b64decode(picture))
    pixels = np.array(need("PIL.Image", "plots").open(file))
    axes.imshow(pixels, extent=(-0.66, -0.32, height + 0.5, height - 0.5), aspect="auto")


def _draw_map(axes: Any, table: Any) -> None:
    """Certified winners as cells."""
    from matplotlib.colors import ListedColormap

    codes = table["winner"].values + 2
    colours = ListedColormap(["#f0f0f0", "#bbbbbb", *COLOURS.values()])
    grid = table["uplink"].values
    axes.pcolormesh(table["downlink"].values, grid, codes, cmap=colours, vmin=-0.5, vmax=4.5, shading="nearest")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("mean rate of the downlink (bit/s)")
    device = float(table["slowdown"])
    speed = "as fast as the edge" if device == 1 else f"{device:g} times slower"
    axes.set_title(
        f"device {speed}: least P(sojourn > {table.attrs['deadline']:g} s)\n"
        f"at {table.attrs['arrival_rate']:g} requests/s, certified",
        fontsize=9.5,
    )


def tell(table: Any) -> str:
    """Payloads, shares right, geometry, damages, and what was to be reached."""
    lines = ["**measured; 95 % intervals; the referee, which is not learned, scores**", ""]
    lines += [
        "| requests | strategy | right | loss against all on the edge | up (B) | down (B) |",
        "|---|---|---|---|---|---|",
    ]
    for kind in table["kind"].values:
        for way in table["way"].values:
            row = table.sel(kind=kind, way=way)
            sizes = [f"{float(row[name].mean()):.0f}" for name in ("up_bytes", "down_bytes")]
            lines.append(
                f"| {kind} | {WAYS[way]} | {_share(row, 'right_share')} | "
                f"{'' if way == 'all_on_edge' else _share(row, 'loss')} | {sizes[0]} | {sizes[1]} |"
            )
    count = table.sizes["request"]
    lines += [
        "",
        f"{count} requests of each kind, held out of training, at {table.attrs['prior_steps']} + "
        f"{table.attrs['decode_steps']} steps. Edge-side paints the picture of device-side, bit for bit, and sends its "
        f"seed down and the request up.",
        "",
        "| damage to the collaborative seed | right | mean difference (levels) |",
        "|---|---|---|",
    ]
    for damage in table["damage"].values:
        row = table.sel(damage=damage)
        lines.append(f"| {damage} | {_share(row, 'damaged_share')} | {float(row['difference'].mean()):.1f} |")
    for after in table["steps_before"].values:
        row = table.sel(steps_before=after)
        lines.append(
            f"| a third came, the rest after {after} step{'s' if after > 1 else ''} | {_share(row, 'early_share')} | "
            f"{float(row['early_difference'].mean()):.1f} |"
        )
    near = table.sel(way="device_side")
    lines += [
        "",
        f"Worst centre within {CENTRE:g} px of what an edit asks: {_share(near, 'within')}.",
        "",
        _reached(table),
    ]
    return "\n".join(lines) + "\n"


def _share(row: Any, name: str) -> str:
    value, low, high = (100 * float(row[f"{name}{end}"]) for end in ("", "_low", "_high"))
    return f"{value:.1f} % [{low:.1f}, {high:.1f}]"


def _reached(table: Any) -> str:
    """Each thing that was to be reached, and whether it is."""
    said = []
    for way, loss in LOSS.items():
        rows = table.sel(way=way)
        right, lost = 100 * float(rows["right_share"].min()), 100 * float(rows["loss"].max())
        good = right >= 100 * RIGHT and lost <= 100 * loss
        said.append(
            f"{WAYS[way]} at least {100 * RIGHT:g} % right and at most {100 * loss:g} points below all on the edge: "
            f"{'reached' if good else 'missed'} ({right:.1f} %, {lost:+.1f})"
        )
    runs = {name: flow["session"] for name, flow in flows(table).items()}
    seeds = [runs["device_side"]["up_bytes"], runs["collaborative"]["up_bytes"], runs["edge_side"]["down_bytes"]]
    latent = next(said for said in runs["collaborative"]["messages"] if said["kind"] == "latent")
    raw = next(said for said in runs["device_side"]["messages"] if said["direction"] == "down")["raw_bytes"]
    said.append(
        f"seeds of at most {SEED_BYTES} B: {'reached' if max(seeds) <= SEED_BYTES else 'missed'} ({max(seeds)} B)"
    )
    said.append(
        f"a collaborative downlink of at most a sixteenth of the raw picture: "
        f"{'reached' if 16 * latent['bytes'] <= raw else 'missed'} ({latent['bytes']} of {raw} B)"
    )
    return "To reach: " + "; ".join(said) + "."

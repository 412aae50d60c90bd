"""Figure 7: quality over prior and decoding steps, and whether prior steps matter more."""

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer import quality
from edgeinfer._extras import need
from edgeinfer.paper.drawing import style
from edgeinfer.paper.measured import quality as measurement
from edgeinfer.paper.measured import store

TITLE = "Figure 7: quality over prior and decoding steps"
PAPER = "The paper states that more prior steps raise the score much more than more decoding steps do."
HERE = (
    "Here that is measured on a small cascade of our own, in a toy world; the size of the effect depends on how "
    "that world is made (whether captions fix the layout) and on the guidance, so that it is no evidence on other "
    "models. The interval of the difference decides: holds, fails, or undecided."
)
METRICS = ("clip", "attributes")
_AXES = (("flop", 1e9, "FLOP a request (GFLOP)"), ("time", 1e-3, "computing time of a request (ms)"))
LABELS = {"clip": "CLIP score", "attributes": "all attributes right"}
VERDICTS = ("holds", "fails", "is undecided")
#: Along which steps grow, and what is then said of the others.
PATHS = {"prior": "prior steps (fewest of decoding)", "decode": "decoding steps (most of prior)", "both": "both alike"}
#: What is made equal when a prior step is weighed against a decoding step.
PRICES = ("range", "steps", "flop", "time")
EQUAL = {
    "range": "each axis from its fewest to its most steps",
    "steps": "at equally many added steps",
    "flop": "at equally many added FLOP",
    "time": "at equal added time",
}


def data(*, surface: Any = None, reduced: Any = None) -> Any:
    """The measured surface, costs of its cells, what prior steps gain over decoding steps, and whether steps ever hurt.

    Parameters
    ----------
    surface : xarray.Dataset, optional
        What `measurement.measure` writes; the shipped one by default.
    reduced : xarray.Dataset, optional
        The same with walks that begin from less noise; by default the shipped one, or none beside another `surface`.

    Returns
    -------
    xarray.Dataset
        Metrics over (guidance, prior_steps, decode_steps); `flop` and `time` (s) of a request over the same;
        `{metric}_prior_gain`, `{metric}_decode_gain` and `{metric}_advantage` with ends, over (guidance, world, price):
        the mean gain of moving along one axis, averaged over the other, and the difference of the two. `tuning_...`
        over guidance_scale: the scores by which the guidance was chosen. `{metric}_change` with ends, over
        (init_noise_sigma, path, steps): the change of the mean, paired by caption and at each surface's own best
        guidance, from two steps of the prior (with the fewest of the other), of decoding (with the most of the other),
        or of both alike; NaN where not measured.
    """
    surfaces = store.surfaces(surface, reduced)
    table = surfaces[0]
    costs = _costs(table)
    grid = ("guidance", "prior_steps", "decode_steps")
    kept = [name for metric in METRICS for name in (metric, f"{metric}_low", f"{metric}_high")]
    kept += [str(name) for name in table.data_vars if str(name).startswith("tuning_")]
    answer = table[kept].assign(
        flop=(grid, costs["flop"][2], {"units": "FLOP", "provenance": "derived"}),
        time=(grid, costs["time"][2], {"units": "s", "provenance": "derived from measured step times"}),
    )
    worlds = ("both", *measurement.WORLDS)
    dims = ("guidance", "world", "price")
    for metric in METRICS:
        scores = table[f"{metric}_of_caption"].transpose(*grid, "caption").values.astype(float)
        columns: dict[str, Any] = {}
        for cell in np.ndindex(scores.shape[0], len(worlds), len(PRICES)):
            guidance, world, price = cell[0], worlds[cell[1]], PRICES[cell[2]]
            chosen = np.ones(scores.shape[-1], bool) if world == "both" else table["world"].values == world
            prior, decode, _ = costs[price]
            weights = _contrast(prior[guidance], decode[guidance], price == "range")
            for name, weight in zip(("prior_gain", "decode_gain", "advantage"), weights, strict=True):
                gains = np.einsum("pd,pdc->c", weight, scores[guidance][..., chosen])
                estimate = quality.mean_score(gains, rng=7)
                for suffix, value in (("", estimate.value), ("_low", estimate.low), ("_high", estimate.high)):
                    shape = scores.shape[0], len(worlds), len(PRICES)
                    columns.setdefault(f"{metric}_{name}{suffix}", np.empty(shape))[cell] = value
        attributes = {"units": table[metric].attrs["units"], "provenance": "measured"}
        answer = answer.assign({name: (dims, values, attributes) for name, values in columns.items()})
    answer = answer.assign(_changes(surfaces))
    return answer.assign_coords(world=("world", list(worlds)), price=("price", list(PRICES)))


def _changes(surfaces: list[Any]) -> Any:
    """Of each metric, along the `PATHS`, from two steps on."""
    xarray = need("xarray", "paper")
    rows = []
    for table in surfaces:
        part = table.sel(guidance=table.attrs["best_guidance"])
        prior, decode = (part[axis].values.tolist() for axis in ("prior_steps", "decode_steps"))
        cells = {
            "prior": {steps: (steps, decode[0]) for steps in prior},
            "decode": {steps: (prior[-1], steps) for steps in decode},
            "both": {steps: (steps, steps) for steps in prior if steps in decode},
        }
        every, row = sorted({*prior, *decode}), {}
        for metric in METRICS:
            found = np.full((3, len(PATHS), len(every)), np.nan)
            scores = part[f"{metric}_of_caption"].astype(float)
            for j, path in enumerate(PATHS):
                first = cells[path].get(2, (prior[0], decode[0]))
                for steps, cell in cells[path].items():
                    here, there = (scores.sel(prior_steps=p, decode_steps=d).values for p, d in (cell, first))
                    estimate = quality.mean_score(here - there, rng=7)
                    found[:, j, every.index(steps)] = estimate.value, estimate.low, estimate.high
            attributes = {"units": table[metric].attrs["units"], "provenance": "measured"}
            for end, values in zip(("", "_low", "_high"), found, strict=True):
                row[f"{metric}_change{end}"] = ("path", "steps"), values, attributes
        coordinates = {
            "path": list(PATHS),
            "steps": every,
            "init_noise_sigma": table.attrs.get("init_noise_sigma", 1.0),
        }
        rows.append(xarray.Dataset(row, coords=coordinates))
    return xarray.concat(rows, dim="init_noise_sigma")


def _costs(table: Any) -> dict[str, tuple[Any, Any, Any]]:
    """By price: cost of prior steps, of decoding steps (guidance, steps), and of whole requests (guidance, cell)."""
    prior, decode = (table[axis].values.astype(float) for axis in ("prior_steps", "decode_steps"))

    def cost(of_prior: NDArray[np.float64], of_decode: NDArray[np.float64], fixed: Any) -> tuple[Any, Any, Any]:
        first, second = of_prior[:, None] * prior, of_decode[:, None] * decode
        return first, second, np.asarray(fixed)[:, None, None] + first[:, :, None] + second[:, None, :]

    one = np.ones(table.sizes["guidance"])
    value = {name: table[name].values for name in table.data_vars if table[name].dims == ("guidance",)}
    steps = cost(one, one, 0 * one)
    fixed = value["encoder_flop"] + value["feature_flop"]
    return {
        "range": steps,
        "steps": steps,
        "flop": cost(value["prior_step_flop"], value["decode_step_flop"], fixed),
        "time": cost(value["prior_step_time"], value["decode_step_time"], 0 * one),
    }


def _contrast(prior: NDArray[np.float64], decode: NDArray[np.float64], whole: bool) -> tuple[Any, Any, Any]:
    """Weights of the cells in the gain along the prior axis, along the decoding axis, and in their difference.

    The gain along an axis is from its fewest steps, linear between the measured ones, averaged over added costs from
    0 to what both axes reach (or, if `whole`, at the most steps), and averaged over the other axis.
    """
    added = [axis - axis[0] for axis in (prior, decode)]
    reach = min(axis[-1] for axis in added)
    means = [_unit(axis.size, -1) if whole else _mean_weights(axis, reach) for axis in added]
    lines = [mean - _unit(mean.size, 0) for mean in means]
    first = np.outer(lines[0], np.full(decode.size, 1 / decode.size))
    second = np.outer(np.full(prior.size, 1 / prior.size), lines[1])
    return first, second, first - second


def _unit(size: int, at: int) -> NDArray[np.float64]:
    line = np.zeros(size)
    line[at] = 1
    return line


def _mean_weights(nodes: NDArray[np.float64], reach: float) -> NDArray[np.float64]:
    """Weights of values at `nodes` in the mean over [0, reach] of the line through them."""
    weights = np.zeros(nodes.size)
    for k in range(nodes.size - 1):
        low, high = nodes[k], min(nodes[k + 1], reach)
        if high > low:
            share = ((high + low) / 2 - low) / (nodes[k + 1] - low)
            weights[k] += (high - low) * (1 - share) / reach
            weights[k + 1] += (high - low) * share / reach
    return weights


def verdict(low: float, high: float) -> str:
    """What an interval of prior's advantage says of the paper's claim."""
    return VERDICTS[0 if low > 0 else 1 if high < 0 else 2]


def _verdicts(table: Any) -> dict[str, dict[str, int]]:
    """How many comparisons of each world, over metrics, guidance and prices, the claim has each verdict in."""
    counts = {world: dict.fromkeys(VERDICTS, 0) for world in measurement.WORLDS}
    for metric in METRICS:
        for world, count in counts.items():
            low, high = (table[f"{metric}_advantage{end}"].sel(world=world).values.flat for end in ("_low", "_high"))
            for ends in zip(low, high, strict=True):
                count[verdict(*ends)] += 1
    return counts


def point(table: Any) -> str:
    """How often the paper's claim holds in each world, in one sentence."""
    said = _verdicts(table)
    total = sum(said["free"].values())
    return (
        f"That prior steps matter more than decoding steps holds in {said['free']['holds']} of {total} comparisons "
        f"where captions leave the layout free, and in {said['fixed']['holds']} of {total} where they fix it."
    )


def _tell_changes(table: Any) -> list[str]:
    """How far each metric changes from two steps to the most, and whether that is a fall beyond its interval."""
    lines = ["", "From two steps to the most, with the noise that walks begin from:", ""]
    lines += ["| metric | noise | " + " | ".join(PATHS.values()) + " |", "|---|---|---|---|---|"]
    for metric in METRICS:
        for noise in table["init_noise_sigma"].values:
            cells = []
            for path in PATHS:
                row = table.sel(init_noise_sigma=noise, path=path)
                row = row.dropna("steps", subset=[f"{metric}_change"]).isel(steps=-1)
                mean, low, high = (float(row[f"{metric}_change{end}"]) for end in ("", "_low", "_high"))
                said = "falls" if high < 0 else "rises" if low > 0 else "no change beyond the interval"
                cells.append(f"{mean:+.3g} ({low:+.3g} to {high:+.3g}) at {int(row['steps'])}: {said}")
            lines.append(f"| {LABELS[metric]} | {noise:g} | {' | '.join(cells)} |")
    return lines


def tell(table: Any) -> str:
    """The paper's claim on `data`'s table, in plain words: Markdown, a row a metric, guidance and price."""
    rows, counts = [], _verdicts(table)
    for metric in METRICS:
        for guidance in table["guidance"].values:
            for price in table["price"].values:
                cells, found = [], []
                for world in measurement.WORLDS:
                    cell = table.sel(guidance=guidance, world=world, price=price)
                    low, mean, high = (float(cell[f"{metric}_advantage{end}"]) for end in ("_low", "", "_high"))
                    found.append(verdict(low, high))
                    cells.append(f"{mean:+.3g} ({low:+.3g} to {high:+.3g})")
                fixed, free = found
                so = (
                    fixed
                    if fixed == free
                    else f"{fixed} where captions fix the layout, {free} where they leave it free"
                )
                if free == "holds" != fixed:
                    so += ": it rests on the design of the data"
                rows.append(f"| {LABELS[metric]} | {guidance:g} | {EQUAL[price]} | {' | '.join(cells)} | {so} |")
    said = {
        world: ", ".join(f"{name} in {number}" for name, number in count.items()) for world, count in counts.items()
    }
    lines = [
        f"That prior steps matter more, in {len(rows)} comparisons each: where captions fix the layout it "
        f"{said['fixed']}; where they leave it free it {said['free']}. A comparison is the mean gain of moving "
        f"along the "
        "prior axis less that of moving along the decoding axis, with its 95 % interval over captions.",
        "",
        "| metric | guidance | prior against decoding | captions fix the layout | captions leave it free | so the "
        "claim |",
        "|---|---|---|---|---|---|",
        *rows,
        *_tell_changes(table),
        *_tell_guidance(table),
    ]
    return "\n".join(lines) + "\n"


def _tell_guidance(table: Any) -> list[str]:
    if "tuning_attributes" not in table:
        return []
    lines = ["", f"Guidance {table.attrs['best_guidance']:g} is used. On captions of its own:", ""]
    lines += ["| guidance | all attributes right | CLIP score |", "|---|---|---|"]
    for scale in table["guidance_scale"].values:
        row = table.sel(guidance_scale=scale)
        cells = []
        for metric in ("attributes", "clip"):
            mean, low, high = (float(row[f"tuning_{metric}{end}"]) for end in ("", "_low", "_high"))
            cells.append(f"{mean:.4g} ({low:.4g} to {high:.4g})")
        lines.append(f"| {scale:g} | {' | '.join(cells)} |")
    return lines


@partial(style.drawing, text=8)
def draw(table: Any) -> Any:
    """Scores over steps, FLOP and time at the best guidance, the claim's intervals for all, and changes with steps."""
    from matplotlib import colormaps

    figure, panels = style.subplots(4, 3, size=(9.3, 12.4))
    claims, changed = panels[2][:2], [panels[2][2], *panels[3]]
    part = table.sel(guidance=table.attrs["best_guidance"])
    prior, decode = part["prior_steps"].values, part["decode_steps"].values
    colours = colormaps["viridis"](np.linspace(0, 0.9, prior.size))
    for row, claim, metric in zip(panels[:2], claims, METRICS, strict=True):
        image = row[0].imshow(part[metric].values, origin="lower", cmap="viridis", aspect="auto")
        for i, j in np.ndindex(prior.size, decode.size):
            value = float(part[metric][i, j])
            dark = value < float(part[metric].mean())
            text = f"{value:.1f}" if metric == "clip" else f"{value:.2f}"
            row[0].text(j, i, text, ha="center", va="center", fontsize=7, color="white" if dark else "black")
        row[0].set_xticks(range(decode.size), decode)
        row[0].set_yticks(range(prior.size), prior)
        row[0].set_xlabel("decoding steps")
        row[0].set_ylabel("prior steps")
        row[0].set_title(f"{LABELS[metric]}, guidance {table.attrs['best_guidance']:g}", fontsize=9)
        figure.colorbar(image, ax=row[0], shrink=0.8)
        for axes, (cost, scale, label) in zip(row[1:], _AXES, strict=True):
            for i, steps in enumerate(prior):
                line = part.isel(prior_steps=i)
                low, high = line[metric] - line[f"{metric}_low"], line[f"{metric}_high"] - line[metric]
                axes.errorbar(
                    line[cost] / scale,
                    line[metric],
                    yerr=np.maximum([low, high], 0),
                    color=colours[i],
                    marker="o",
                    markersize=3,
                    linewidth=1,
                    label=f"{steps} prior",
                )
            style.plain_log(axes, "x")
            axes.set_xlabel(label)
            axes.set_ylabel(LABELS[metric])
            axes.grid(True, color="0.9", linewidth=0.6)
        _draw_claim(claim, table, metric)
    # Outside, for no panel has room beside its intervals.
    figure.legend(*panels[1][1].get_legend_handles_labels(), fontsize=8, loc="outside upper right", ncols=prior.size)
    changes = [("clip", "prior"), ("clip", "decode"), ("clip", "both"), ("attributes", "both")]
    for axes, (metric, path) in zip(changed, changes, strict=True):
        _draw_changes(axes, table, metric, path)
    style.legend_below(figure, *changed[1].get_legend_handles_labels(), columns=2)
    return figure


def _draw_changes(axes: Any, table: Any, metric: str, path: str) -> None:
    for noise, colour, marker in zip(table["init_noise_sigma"].values, (style.RED, style.BLUE), "os", strict=False):
        line = table.sel(init_noise_sigma=noise, path=path)
        line = line.sel(steps=line["steps"] >= 2)
        low, mean, high = (line[f"{metric}_change{end}"].values for end in ("_low", "", "_high"))
        axes.errorbar(
            line["steps"].values * (1 if marker == "o" else 1.04),
            mean,
            yerr=np.maximum([mean - low, high - mean], 0),
            color=colour,
            marker=marker,
            markersize=4,
            linewidth=1,
            label=f"walks begin from noise of {noise:g}",
        )
    axes.axhline(0, color="0.4", linewidth=0.8)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel(PATHS[path])
    axes.set_ylabel(f"{LABELS[metric]}, change from 2 steps", fontsize=8)
    axes.grid(True, color="0.9", linewidth=0.6)


def _draw_claim(axes: Any, table: Any, metric: str) -> None:
    lines = [(g, w, p) for g in table["guidance"].values for w in measurement.WORLDS for p in table["price"].values]
    for y, (guidance, world, price) in enumerate(lines):
        cell = table.sel(guidance=guidance, world=world, price=price)
        low, mean, high = (float(cell[f"{metric}_advantage{end}"]) for end in ("_low", "", "_high"))
        colour = dict(zip(VERDICTS, (style.BLUE, style.RED, "#777777"), strict=True))[verdict(low, high)]
        axes.plot([low, high], [y, y], color=colour, linewidth=2)
        axes.plot(mean, y, "o", color=colour, markersize=4)
    axes.axvline(0, color="0.4", linewidth=0.8)
    axes.set_yticks(range(len(lines)), [f"GS {g:g}, {w}, {p}" for g, w, p in lines], fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel(f"gain of prior less gain of decoding steps\n({LABELS[metric]}, 95 % interval)", fontsize=8)
    axes.set_title("blue: the claim holds, red: fails, grey: undecided", fontsize=8)

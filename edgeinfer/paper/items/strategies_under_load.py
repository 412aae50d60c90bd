"""Strategies of collaboration under load: real runs of the processes beside what the core said of them before."""

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer._extras import need
from edgeinfer.estimates import cycles, shares
from edgeinfer.model import RayleighLink
from edgeinfer.paper.drawing import style
from edgeinfer.paper.measured import store
from edgeinfer.paper.measured.strategies_under_load import COLUMNS, Stages, ends, scheduled, simulated

TITLE = "Six strategies under load: prediction against measurement"
PAPER = "The paper describes the strategies in words and gives no times."
HERE = (
    "Requests came as a Poisson process to a device and an edge that work on them together, as processes over a shaped "
    "link, by each of the six strategies at two loads. Before each block of a run the core said how often each of four "
    "deadlines would be missed, from times of the stages that were taken just before in the same processes and from "
    "when requests were to come, which was drawn before: stages in a row for one subject; rounds that hold the device, "
    "or branches that run at once, for several."
)
COMMAND = "edgeinfer measure --only strategies_under_load"
#: What is to be reached: the share of cells whose measured interval holds the prediction, and the error of a median.
CELLS, MEDIAN, EXCHANGE = 0.9, 0.05, 3e-3
#: Predictions: made before the run, of requests that come when these were to come, and of Poisson arrivals in a long
#: run; and, afterwards, of the run's own stage times.
PREDICTIONS = ("given", "predicted", "own")
#: Processors that others may keep busy, on average, for a run to count as undisturbed.
DISTURBED = 0.1
CONFIDENCE = 0.95
_RESAMPLES = 2000
_COLOURS = style.SERIES


def data(*, measured: Any = None) -> Any:
    """Measured and predicted violation probabilities, and medians.

    Measured intervals are bootstraps over cycles of the queue, each cell's of 95 % for itself. Requests that failed
    count as late.

    Parameters
    ----------
    measured : xarray.Dataset, optional
        What `measured.strategies_under_load` writes; the shipped one by default.

    Returns
    -------
    xarray.Dataset
        Over (strategy, load, probability), the last what was predicted roughly when the deadlines were set: `deadline`
        (s); `measured`; `given` and `predicted`, made before the run, of requests that come when these were to come
        and of Poisson arrivals in a long run; and `own`, as `given` but of the run's own stage times; each with `_low`
        and `_high`; `bracket_lower`, `bracket_upper`, certified for `predicted`; `inside_given`, `inside_predicted`,
        `inside_own`, whether the measured interval holds the value. Over (strategy, load): `..._median` of all four
        (s), `measured_median_low`, `measured_median_high`, `requests`, `cycles`, `failed`, `others` and `slower_edge`,
        `slower_device`, mean stage times of the run over those that were taken before, less 1; `client`, what the
        device takes for a request beside computing (s). Over strategy: `exchange` (s), what an exchange with the edge
        takes beside networks and link.

    Raises
    ------
    FileNotFoundError
        Naming the command that measures.
    """
    xarray = need("xarray", "paper")
    table = store.load("strategies_under_load", COMMAND) if measured is None else measured
    shape = table.sizes["strategy"], table.sizes["load"]
    cells = [_cell(table.isel(strategy=i), j, i) for i, j in np.ndindex(*shape)]
    answer: dict[str, Any] = {}
    for name in cells[0]:
        values = np.array([cell[name] for cell in cells])
        unit = "s" if "median" in name else "1"
        seen = name.startswith("measured") or name in ("cycles", "failed")
        kind = "measured" if seen else "derived from measured times"
        dims = ("strategy", "load", "probability")[: 1 + values.ndim]
        answer[name] = (dims, values.reshape(*shape, *values.shape[1:]), {"units": unit, "provenance": kind})
    told = [name for name in _TOLD if name in table]
    for name in (*told, "requests", "others"):
        answer[name] = table[name]
    for name, dims in (("client", ("strategy", "load")), ("exchange", ("strategy",))):
        values = table["profile_client" if name == "client" else "alone_exchange"].values
        typical = np.array([_median(each) for each in values.reshape(-1, values.shape[-1])])
        answer[name] = (dims, typical.reshape(values.shape[:-1]), {"units": "s", "provenance": "measured"})
    found = xarray.Dataset(answer, attrs=dict(table.attrs))
    for name in PREDICTIONS:
        inside = (found["measured_low"] <= found[name]) & (found[name] <= found["measured_high"])
        found[f"inside_{name}"] = inside.assign_attrs(units="1", provenance="derived")
    return found


_TOLD = (
    *("deadline", "rate", "bracket_lower", "bracket_upper"),
    *(f"{name}{end}" for name in PREDICTIONS[:2] for end in ("", "_low", "_high", "_median")),
)


def _median(values: NDArray[np.float64]) -> float:
    return float(np.nanmedian(values)) if np.isfinite(values).any() else float("nan")


def _cell(part: Any, column: int, number: int) -> dict[str, Any]:
    """What is measured in one run of a strategy, and predicted with its own stage times."""
    strategy, run = str(part["strategy"].values), part.isel(load=column)
    count = int(run["requests"])
    arrival, sojourn = (run[name].values[:count] for name in ("arrival", "sojourn"))
    lasting = np.nan_to_num(sojourn, nan=np.inf)
    cycle = cycles(arrival, lasting)
    cell: dict[str, Any] = {"cycles": int(cycle[-1]) + 1, "failed": int(np.isinf(lasting).sum())}
    deadlines = run["deadline"].values
    late = [shares(lasting > limit, cycle, CONFIDENCE, resamples=_RESAMPLES) for limit in deadlines]
    cell |= {f"measured{end}": [ends(each)[end] for each in late] for end in ("", "_low", "_high")}
    for suffix, value in zip(("", "_low", "_high"), _medians(lasting, cycle), strict=True):
        cell[f"measured_median{suffix}"] = value
    link = RayleighLink(**{name[5:]: value for name, value in part.attrs.items() if name.startswith("link_")})
    law, bits = run["profile_rounds_law"].values, {name: run[f"profile_{name}"].values for name in _BITS}
    alone, profile = ({name: run[prefix + name].values for name in COLUMNS} for prefix in ("alone_", "profile_"))
    own = {name: run[name].values[:count] for name in COLUMNS}
    before, after = (Stages.of(strategy, times | bits, alone, law) for times in (profile, own))
    told = simulated("own", after.pipeline(strategy, link), scheduled(arrival), deadlines, number)
    cell["own_median"] = float(np.median(told.pop("own_law")))
    for place in ("edge", "device"):
        timed, met = (getattr(stages, place) for stages in (before, after))
        cell[f"slower_{place}"] = met.mean() / timed.mean() - 1 if timed.size and met.size else np.nan
    return cell | told


_BITS = ("uplink_bits", "downlink_bits")


def _medians(sojourn: NDArray[np.float64], cycle: NDArray[np.int64]) -> tuple[float, float, float]:
    """The median, and the ends of its bootstrap over cycles."""
    count = int(cycle[-1]) + 1
    drawn = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=_RESAMPLES)
    order = np.argsort(sojourn)
    weight = np.cumsum(drawn[:, cycle[order]], axis=1)
    place = (weight < weight[:, -1:] / 2).sum(axis=1)
    low, high = np.quantile(sojourn[order][place], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], method="nearest")
    return float(np.median(sojourn)), float(low), float(high)


def errors(table: Any, prediction: str = PREDICTIONS[0]) -> Any:
    """The predicted median over the measured one, less 1, over (strategy, load)."""
    return table[f"{prediction}_median"] / table["measured_median"] - 1


def tell(table: Any) -> str:
    """Markdown: what was to be reached and is, and a row a run."""
    counts = {name: int(table[f"inside_{name}"].sum()) for name in PREDICTIONS}
    cells, off = table["inside_given"].size, np.abs(errors(table))
    close = int((off <= MEDIAN).sum())
    exchange = float(table["exchange"].median())
    a = table.attrs
    reached = {True: "reached", False: "missed"}
    lines = [
        f"- prediction inside the measured 95 % interval: {counts['given']} of {cells} cells, to reach: {CELLS:.0%}: "
        f"{reached[counts['given'] >= CELLS * cells]}; with the run's own stage times {counts['own']}; of Poisson "
        f"arrivals in a long run, which a short one does not meet, {counts['predicted']};",
        f"- median within {MEDIAN:.0%}: {close} of {off.size} runs, at worst {float(off.max()):.1%}: "
        f"{reached[close == off.size]}; of Poisson arrivals in a long run at worst "
        f"{float(np.abs(errors(table, 'predicted')).max()):.1%};",
        f"- an exchange takes {1e3 * exchange:.2f} ms beside networks and link in the median, to reach: "
        f"{1e3 * EXCHANGE:g} ms: {reached[exchange <= EXCHANGE]}.",
        "",
    ]
    others = float(table["others"].max())
    if not others <= DISTURBED:
        lines += [f"Preliminary: others kept up to {others:.1f} processors busy during the runs.", ""]
    lines += [
        f"Requests of one subject paint with {a['prior_steps']} + {a['decode_steps']} steps, those of several with the "
        f"strategies' own; a run takes {a['seconds']:g} s. In brackets the measured 95 % interval.",
        "",
        "| strategy | load | requests | P(W > T), predicted and measured, at four deadlines | inside | median (ms), "
        "predicted, in a long run, measured | off | edge and device against profiled |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for i, j in np.ndindex(off.shape):
        lines.append(_row(table.isel(strategy=i, load=j)))
    return "\n".join(lines) + "\n"


def _row(cell: Any) -> str:
    shown = ", ".join(
        f"{float(k['given']):.3f} {float(k['measured']):.3f} [{float(k['measured_low']):.3f}, "
        f"{float(k['measured_high']):.3f}]"
        for k in (cell.isel(probability=n) for n in range(cell.sizes["probability"]))
    )
    medians = ", ".join(f"{1e3 * float(cell[f'{name}_median']):.0f}" for name in ("given", "predicted", "measured"))
    slower = ", ".join(
        f"{100 * float(cell[f'slower_{place}']):+.1f} %" if np.isfinite(cell[f"slower_{place}"]) else "-"
        for place in ("edge", "device")
    )
    failed = f", {int(cell['failed'])} failed" if int(cell["failed"]) else ""
    inside = cell["inside_given"]
    return (
        f"| {str(cell['strategy'].values).replace('_', '-')} | {float(cell['load']):g} "
        f"| {int(cell['requests'])}{failed} | {shown} | {int(inside.sum())} of {inside.size} "
        f"| {medians} | {100 * float(errors(cell)):+.1f} % | {slower} |"
    )


@partial(style.drawing, text=8)
def draw(table: Any) -> Any:
    """A panel a strategy: measured with intervals, the prediction, and the certified bracket of a long run."""
    names = table["strategy"].values
    columns = min(3, names.size)
    figure, panels = style.subplots(-(-names.size // columns), columns, size=(10.6, 7), squeeze=False, sharey=True)
    for axes in panels.flat[names.size :]:
        axes.set_visible(False)
    for axes, name in zip(panels.flat, names, strict=False):
        rows, inside = table.sel(strategy=name), 0
        for colour, load in zip(_COLOURS, table["load"].values, strict=False):
            cell = rows.sel(load=load)
            inside += int(cell["inside_given"].sum())
            x = 1e3 * cell["deadline"]
            axes.fill_between(x, cell["bracket_lower"], cell["bracket_upper"], color=colour, alpha=0.35, linewidth=2)
            axes.plot(x, cell["given"], color=colour, linewidth=1)
            sides = np.abs([cell["measured"] - cell["measured_low"], cell["measured_high"] - cell["measured"]])
            label = f"load {load:g}, {int(cell['requests'])} requests"
            axes.errorbar(
                x, cell["measured"], sides, fmt="o", color=colour, markersize=4, linewidth=1, capsize=2, label=label
            )
        style.probability_axes(axes, 1e-2)
        axes.set_xlabel("deadline (ms)")
        axes.set_title(f"{str(name).replace('_', '-')}: {inside} of {rows['inside_given'].size} inside", fontsize=10)
        axes.legend(fontsize=8)
    for axes in panels[:, 1:].flat:
        axes.set_ylabel("")
    return figure


def point(table: Any) -> str:
    """The headline."""
    inside, worst = table["inside_given"], float(np.abs(errors(table)).max())
    return (
        f"The prediction made before each run lies inside the measured interval in {int(inside.sum())} of "
        f"{inside.size} cells, and medians are off by {worst:.1%} at most."
    )

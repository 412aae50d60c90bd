"""Cut networks as they ran, beside what their profiled pipelines predict: latency without load, violations under
load.
"""

from typing import Any

import numpy as np

from edgeinfer.estimates import proportions
from edgeinfer.paper.drawing import style
from edgeinfer.paper.measured import store

TITLE = "Predicted beside measured: cut networks over a fading link"
HERE = (
    "Both halves of each network ran as processes on one machine, tensors crossing a shaped Rayleigh link, the "
    "device made slower by sleeping. Predicted is the pipeline of the profiled cut. Link and slowdown are "
    "assumed."
)
COLOURS = (*style.SERIES, "#555555")
#: What is to be reached: the median error of the latency, and the overhead, s.
ERROR, OVERHEAD = 0.10, 1.5e-3


def data(*, measured: Any = None) -> Any:
    """What `edgeinfer measure` wrote, with means, errors and intervals.

    Parameters
    ----------
    measured : xarray.Dataset, optional
        What `halves.measure` writes; the one that ships by default.

    Returns
    -------
    xarray.Dataset
        With, over (network, cut), `latency`, s, the measured mean and its 95 % bootstrap interval, and `error`,
        predicted over measured less 1, with that interval's; over (network), `median_error` of the cuts' absolute
        errors, and `median_overhead`, s, what a request takes outside ONNX Runtime on loopback, without a link; and
        over (network, probability) `meets` and `meets_constant`, whether the measured interval meets the bracket, with
        the computing as measured and as constant.
    """
    table = store.load("halves") if measured is None else measured
    found = np.full((*table["predicted"].shape, 3), np.nan)
    for index in np.ndindex(table["predicted"].shape):
        sojourn = table["sojourn"].values[index]
        if np.isfinite(sojourn).any():
            mean = proportions.mean(sojourn[np.isfinite(sojourn)])
            found[index] = mean.value, mean.low, mean.high
    over, kind = ("network", "cut"), {"provenance": "measured"}
    for suffix, values in zip(("", "_low", "_high"), np.moveaxis(found, -1, 0), strict=True):
        table[f"latency{suffix}"] = (over, values, kind | {"units": "s"})
    for suffix, end in (("", ""), ("_low", "_high"), ("_high", "_low")):
        table[f"error{suffix}"] = table["predicted"] / table[f"latency{end}"] - 1
        table[f"error{suffix}"].attrs |= kind | {"units": "1"}
    table["median_error"] = abs(table["error"]).median("cut")
    table["median_overhead"] = table["loopback_overhead"].median("request")
    for name, unit in (("median_error", "1"), ("median_overhead", "s")):
        table[name].attrs |= kind | {"units": unit}
    for suffix in ("", "_constant"):
        meets = (table["violation_low"] <= table[f"upper{suffix}"]) & (
            table["violation_high"] >= table[f"lower{suffix}"]
        )
        table[f"meets{suffix}"] = meets.assign_attrs(kind | {"units": "1"})
    return table


@style.drawing
def draw(table: Any) -> Any:
    """Left: mean latency of each cut. Right: violations under Poisson arrivals, with the bracket and a simulation."""
    figure, (left, right) = style.subplots(1, 2, size=(10.6, 4.6))
    for colour, name in zip(COLOURS * len(table["network"]), table["network"].values, strict=False):
        row = table.sel(network=name)
        mean = row["latency"] * 1e3
        ends = [mean - row["latency_low"] * 1e3, row["latency_high"] * 1e3 - mean]
        left.errorbar(row["predicted"] * 1e3, mean, yerr=ends, fmt="o", markersize=4, color=colour, label=name)
        time = row["deadline"] / float(row["predicted"].min())
        right.fill_between(time, row["lower"], row["upper"], color=colour, alpha=0.08)
        right.fill_between(time, row["lower_constant"], row["upper_constant"], color=colour, alpha=0.5)
        right.plot(time, row["simulated"], color=colour, linewidth=1)
        share = row["violation"].where(row["violation"] > 0)
        ends = [share - row["violation_low"], row["violation_high"] - share]
        right.errorbar(time, share, yerr=ends, fmt="o", markersize=3.5, linewidth=0.8, color=colour)
    low, high = (float(end) * 1e3 for end in (table["predicted"].min() * 0.8, table["predicted"].max() * 1.25))
    left.plot([low, high], [low, high], color="0.6", linewidth=0.8, zorder=0)
    left.fill_between([low, high], [0.9 * low, 0.9 * high], [1.1 * low, 1.1 * high], color="0.93", zorder=0)
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.grid(True, which="major", color="0.88", linewidth=0.6)
    left.set_xlabel("predicted mean latency (ms); grey: 10 %")
    left.set_ylabel("measured mean latency (ms), 95 % interval")
    left.legend(fontsize=8)
    right.set_ylim(1e-3, 1.5)
    right.set_xlabel("deadline over the network's least latency")
    right.set_ylabel(
        f"{style.PROBABILITY}: bands certified (dark: constant\ncomputing), line simulated, marks measured, 95 % "
        f"interval"
    )
    return figure


def tell(table: Any) -> str:
    """Errors, overhead and what the load tests say, as a table."""
    lines = [
        "Measured on one machine; 95 % intervals. Errors are predicted over measured mean latency less 1, without "
        "load.",
        "",
        "| network | cuts | median error | errors, least to largest | overhead on loopback, median | load tests "
        "meet the bracket | with constant computing |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in table["network"].values:
        row = table.sel(network=name)
        errors = row["error"].values[np.isfinite(row["error"].values)]
        spans = sorted(
            zip(errors, row["error_low"].values, row["error_high"].values, strict=False), key=lambda span: span[0]
        )
        ends = ", ".join(
            f"{100 * value:+.1f} % [{100 * a:+.1f}, {100 * b:+.1f}]" for value, a, b in (spans[0], spans[-1])
        )
        meets, sharp = row["meets"].values, row["meets_constant"].values
        lines.append(
            f"| {name} | {len(errors)} | {100 * float(row['median_error']):.1f} % | {ends} "
            f"| {1e3 * float(row['median_overhead']):.2f} ms | {int(meets.sum())} of {meets.size} | "
            f"{int(sharp.sum())} of {sharp.size} |"
        )
    worst = 100 * float(table["median_error"].max())
    slowest = 1e3 * float(table["median_overhead"].max())
    met = bool(table["meets"].all())
    lines += [
        "",
        f"To reach: a median error of at most {100 * ERROR:g} % for each network: "
        f"{'reached' if worst <= 100 * ERROR else 'missed'} "
        f"({worst:.1f} %); an overhead of at most {1e3 * OVERHEAD:g} ms: "
        f"{'reached' if slowest <= 1e3 * OVERHEAD else 'missed'} "
        f"({slowest:.2f} ms); every measured interval meets the bracket: {'yes' if met else 'no'}.",
    ]
    return "\n".join(lines) + "\n"

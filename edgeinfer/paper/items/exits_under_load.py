"""Early exits on the wall clock: a real run with Poisson arrivals beside what the core predicts from a profile."""

from typing import Any

import numpy as np

from edgeinfer.delay import mean_sojourn, violation_bracket
from edgeinfer.estimates.replications import student_mean
from edgeinfer.model import Measured, Pipeline
from edgeinfer.paper.drawing import style
from edgeinfer.paper.items.early_exit import COLOURS, LABELS
from edgeinfer.paper.measured import store
from edgeinfer.paper.measured.exits import POLICIES, PREDICTED

TITLE = "Early exits under load, measured"
HERE = (
    "The small classifier of digits really runs here, one request after another, while requests arrive on the "
    "wall clock as a Poisson process. Service times are profiled in runs of their own, go into the core's "
    "pipeline as samples, and the prediction stands beside the run: without early exits, with calibrated exits, "
    "and with thresholds that fall as the queue grows, of which the core predicts nothing."
)
COMMAND = "edgeinfer measure --only exits_under_load"
# Share below which a run sees too few violations for an interval.
_RARE = 1e-2


def data() -> Any:
    """What was measured, with 95 % intervals over the rounds, and what the core predicts from the profiled samples.

    Returns
    -------
    xarray.Dataset
        Over (policy, arrival_rate): `sojourn`, `service` in s, `backlog`, `accuracy`, and with deadline too
        `violation`; each with `_low` and `_high`. Predicted, NaN for the deadline-aware policy: `predicted_sojourn` (s;
        inf beyond what can be served), `predicted_service` (s), `predicted_backlog`, `violation_lower`,
        `violation_upper`.

    Raises
    ------
    FileNotFoundError
        Naming the command that measures.
    """
    table = store.load("exits_under_load", COMMAND)
    answer = table.drop_dims(["round", "predicted"])
    for name in ("sojourn", "service", "backlog", "accuracy", "violation"):
        rounds = table[name].transpose("round", ...)
        estimate = student_mean(rounds.values, 0.95)
        high = np.minimum(estimate.high, 1) if name in ("accuracy", "violation") else estimate.high
        for suffix, value in (("", estimate.value), ("_low", estimate.low), ("_high", high)):
            answer[name + suffix] = (rounds.dims[1:], value, table[name].attrs)
    rates, deadlines = table["arrival_rate"].values, table["deadline"].values
    shape = (len(POLICIES), len(rates))
    sojourn, service = np.full(shape, np.nan), np.full(shape, np.nan)
    bracket = np.full((2, *shape, len(deadlines)), np.nan)
    for row in range(len(PREDICTED)):
        for column, rate in enumerate(rates):
            stage = Measured(table["samples"].values[row, column].astype(float), "inference")
            pipeline = Pipeline([stage])
            found = violation_bracket(pipeline, rate, deadlines)
            bracket[:, row, column] = found.lower, found.upper
            sojourn[row, column], service[row, column] = mean_sojourn(pipeline, rate), stage.mean()
    derived = {"provenance": "derived from measured samples"}
    over = ("policy", "arrival_rate")
    answer["predicted_sojourn"] = (over, sojourn, {"units": "s"} | derived)
    answer["predicted_service"] = (over, service, {"units": "s"} | derived)
    # Little's law.
    answer["predicted_backlog"] = (over, sojourn * rates, {"units": "1"} | derived)
    for end, name in enumerate(("violation_lower", "violation_upper")):
        answer[name] = ((*over, "deadline"), bracket[end], {"units": "1"} | derived)
    answer.attrs = table.attrs | {"rounds": table.sizes["round"]}
    return answer


def agreement(table: Any) -> tuple[int, int]:
    """In how many cells (predicted policy, stable rate, deadline) of probability >= 1e-2 the measured 95 % interval
    meets the bracket, and how many there are.

    Parameters
    ----------
    table : xarray.Dataset
        What `data` gives.
    """
    rows = table.sel(policy=list(PREDICTED)).where(np.isfinite(table["predicted_sojourn"]))
    counted = rows["violation_upper"] >= _RARE
    meets = (rows["violation_low"] <= rows["violation_upper"]) & (rows["violation_high"] >= rows["violation_lower"])
    return int((counted & meets).sum()), int(counted.sum())


@style.drawing
def draw(table: Any) -> Any:
    """Sojourn times' tail at one rate, backlog over the rate, and backlog over time beyond what can be served without
    exits.
    """
    figure, (first, second, third) = style.subplots(1, 3, size=(10.6, 4.2))
    shown = table.isel(arrival_rate=min(2, table.sizes["arrival_rate"] - 1))
    deadlines, rates = table["deadline"] * 1e3, table["arrival_rate"]
    for policy in POLICIES:
        colour, label = COLOURS[policy], LABELS[policy]
        row, rows = shown.sel(policy=policy), table.sel(policy=policy)
        first.fill_between(deadlines, row["violation_lower"], row["violation_upper"], color=colour, alpha=0.35)
        first.plot(deadlines, row["violation_upper"], color=colour, linewidth=1)
        seen = row["violation"] > 0
        ends = [(row["violation"] - row["violation_low"])[seen], (row["violation_high"] - row["violation"])[seen]]
        first.errorbar(
            deadlines[seen],
            row["violation"][seen],
            ends,
            fmt="o",
            markersize=3.5,
            color=colour,
            linewidth=0.8,
            label=label,
        )
        second.plot(rates, rows["predicted_backlog"], color=colour)
        ends = [rows["backlog"] - rows["backlog_low"], rows["backlog_high"] - rows["backlog"]]
        second.errorbar(rates, rows["backlog"], ends, fmt="o", markersize=3.5, color=colour, linewidth=0.8, label=label)
        third.plot(table["time"], rows["backlog_trace"], color=colour, label=label)
    style.probability_axes(first, 1e-4)
    first.set_xlabel("deadline (ms)")
    first.set_title(f"{float(shown['arrival_rate']):.0f} requests/s, load {float(shown['load']):g}", fontsize=10)
    second.set_yscale("log")
    second.set_xlabel("arrival rate (1/s)")
    second.set_ylabel("requests in the system")
    third.set_yscale("symlog")
    third.set_xlabel("time (s)")
    third.set_ylabel("requests in the system")
    third.set_title(f"{float(rates[-1]):.0f} requests/s, load {float(table['load'][-1]):g}", fontsize=10)
    for axes in (second, third):
        axes.grid(True, which="major", color="0.88", linewidth=0.6)
    second.legend(fontsize=8)
    return figure


def tell(table: Any) -> str:
    """Predicted beside measured at the policy's deadline, and how many cells agree."""
    at = table.sel(deadline=table.attrs["policy_deadline"], method="nearest")
    lines = [
        f"**measured on {table.attrs['processor']}, {table.attrs['rounds']} rounds of {table.attrs['requests']} "
        f"requests; "
        "predicted: derived from the profiled samples**",
        "",
        "| policy | load | requests/s | mean service, profiled and in the run (ms) | mean sojourn, predicted and "
        "measured "
        f"(ms) | P(sojourn > {float(at['deadline']) * 1e3:.3g} ms), predicted and measured | requests in the system, "
        "predicted and measured | accuracy |",
        "|---|---|---|---|---|---|---|---|",
    ]

    def measured(cell: Any, name: str, scale: float = 1.0) -> str:
        return f"{scale * cell[name]:.3g} [{scale * cell[name + '_low']:.3g}, {scale * cell[name + '_high']:.3g}]"

    def predicted(cell: Any, name: str, scale: float = 1.0) -> str:
        return f"{scale * cell[name]:.3g}" if np.isfinite(cell[name]) else "-" if np.isnan(cell[name]) else "unbounded"

    for policy in POLICIES:
        for column in range(table.sizes["arrival_rate"]):
            row = at.sel(policy=policy).isel(arrival_rate=column)
            cell = {name: float(value) for name, value in row.drop_vars("backlog_trace").data_vars.items()}
            bracket = f"{cell['violation_lower']:.3g} .. {cell['violation_upper']:.3g}" if policy in PREDICTED else "-"
            lines.append(
                f"| {LABELS[policy]} | {float(row['load']):g} | {float(row['arrival_rate']):.0f} | "
                f"{predicted(cell, 'predicted_service', 1e3)}, {measured(cell, 'service', 1e3)} | "
                f"{predicted(cell, 'predicted_sojourn', 1e3)}, {measured(cell, 'sojourn', 1e3)} | "
                f"{bracket}, {measured(cell, 'violation')} | "
                f"{predicted(cell, 'predicted_backlog')}, {measured(cell, 'backlog')} | {cell['accuracy']:.3f} |"
            )
    met, cells = agreement(table)
    lines += [
        "",
        f"The measured 95 % interval meets the bracket in {met} of {cells} cells of probability >= {_RARE:g}.",
    ]
    return "\n".join(lines) + "\n"

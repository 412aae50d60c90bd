"""Early exits under load: sojourn time, violations and backlog with and without them."""

from typing import Any

import numpy as np

from edgeinfer._extras import need
from edgeinfer.bridge import calibrate, deadline_policy, load_exits, poisson, replay
from edgeinfer.bridge.exit import digits as digits_data
from edgeinfer.delay import mean_sojourn, violation_bracket
from edgeinfer.model import Compute, Node, Pipeline
from edgeinfer.paper.drawing import style
from edgeinfer.paper.measured.exits import ACCURACY_LOSS, POLICIES

TITLE = "Early exits under load"
HERE = (
    "A small classifier of digits (8 x 8 pixels, real, few) whose inputs leave at the first exit that is sure, "
    "thresholds calibrated on validation images for at most 1 % accuracy loss. Service times are FLOP on a node "
    "of assumed speed; the core's predictions stand beside a queue that replays the test images' own exits with "
    "Poisson arrivals."
)
#: Assumed.
NODE = Node("node", 1e9)
COLOURS = {"none": style.ORANGE, "exits": style.BLUE, "deadline": style.GREEN}
LABELS = {"none": "no early exits", "exits": "calibrated exits", "deadline": "deadline-aware exits"}


def data(*, seed: int = 11, points: int = 12, requests: int = 20_000, runs: int = 8) -> Any:
    """Predicted and replayed queue over the arrival rate, and backlog over time at one rate beyond what exits bear.

    Parameters
    ----------
    seed, points, requests, runs : int
        The seed of the replay, the number of rates, and the replay's effort.

    Returns
    -------
    xarray.Dataset
        Dimensions policy, arrival_rate (1/s), time (s). Where a queue is not stable its mean is inf, its probability 1,
        and what is replayed depends on `requests`.
    """
    network = load_exits()
    validation, test = (network.evaluate(*digits_data.load_data(part)) for part in ("validation", "test"))
    rule = calibrate(validation, accuracy_loss=ACCURACY_LOSS)
    timed, known = (e.with_times(e.costs / NODE.flops, e.full_cost / NODE.flops) for e in (test, validation))
    deadline = 4 * timed.full_cost
    adaptive = deadline_policy(known, rule, deadline)
    policies = {"none": None, "exits": rule, "deadline": adaptive}
    means = {"none": timed.full_cost, "exits": timed.mean_cost(rule)}
    stages = {"none": Compute(test.full_cost, NODE, "inference"), "exits": timed.stage(rule)}
    rates = np.linspace(0.1, 1.2, points) / means["exits"]
    shape = (len(POLICIES), points)
    predicted = {name: np.full(shape, np.nan) for name in ("mean_sojourn", "violation_lower", "violation_upper")}
    for row, stage in zip((0, 1), stages.values(), strict=True):
        pipeline = Pipeline([stage])
        bracket = violation_bracket(pipeline, rates, deadline)
        predicted["mean_sojourn"][row] = mean_sojourn(pipeline, rates)
        predicted["violation_lower"][row], predicted["violation_upper"][row] = bracket.lower, bracket.upper
    replayed = {name: np.empty((*shape, runs)) for name in ("sojourn", "violation", "backlog", "accuracy")}
    for column, rate in enumerate(rates):
        for run in range(runs):
            arrivals = poisson(float(rate), requests, [seed, column, run])
            for row, policy in enumerate(policies.values()):
                served = replay(timed, policy, arrivals, [seed, column, run, 1])
                found = (served.sojourn.mean(), served.violation(deadline), served.mean_backlog, served.accuracy)
                for name, value in zip(replayed, found, strict=True):
                    replayed[name][row, column, run] = value
    arrivals = poisson(1.05 / means["exits"], requests, [seed, points])
    times = np.linspace(0, arrivals[min(requests, 2000) - 1], 200)
    traces = [replay(timed, policy, arrivals, [seed, points, 1]).backlog(times) for policy in policies.values()]
    units = {"sojourn": "s", "mean_sojourn": "s"}
    over = ("policy", "arrival_rate")
    variables: dict[str, Any] = {
        name: (over, values, {"units": units.get(name, "1"), "provenance": "derived"})
        for name, values in predicted.items()
    }
    for name, values in replayed.items():
        attributes = {"units": units.get(name, "1"), "provenance": "simulated"}
        error = values.std(-1, ddof=1) / np.sqrt(runs)
        variables |= {
            f"replayed_{name}": (over, values.mean(-1), attributes),
            f"replayed_{name}_error": (over, error, attributes | {"long_name": "standard error"}),
        }
    variables["backlog_trace"] = (("policy", "time"), np.array(traces), {"units": "1", "provenance": "simulated"})
    return need("xarray", "study").Dataset(
        variables,
        coords={
            "policy": list(POLICIES),
            "arrival_rate": ("arrival_rate", rates, {"units": "1/s"}),
            "time": ("time", times, {"units": "s"}),
        },
        attrs={
            "deadline": deadline,
            "saving": test.saving(rule).value,
            "loss": test.loss(rule).value,
            "trace_rate": 1.05 / means["exits"],
        },
    )


@style.drawing
def draw(table: Any) -> Any:
    """Mean sojourn time and violations over the arrival rate, predicted as lines, replayed as marks; backlog over
    time.
    """
    figure, (first, second, third) = style.subplots(1, 3, size=(10.6, 4.2))
    for policy in POLICIES:
        rows, colour, label = table.sel(policy=policy), COLOURS[policy], LABELS[policy]
        stable = rows.where(np.isfinite(rows["mean_sojourn"]) | (policy == "deadline"))
        first.plot(rows["arrival_rate"], rows["mean_sojourn"] * 1e3, color=colour)
        first.plot(
            stable["arrival_rate"], stable["replayed_sojourn"] * 1e3, "o", color=colour, markersize=4, label=label
        )
        second.plot(rows["arrival_rate"], rows["violation_upper"], color=colour)
        marks = rows["replayed_violation"].where(rows["replayed_violation"] > 0)
        second.plot(rows["arrival_rate"], marks, "o", color=colour, markersize=4, label=label)
        third.plot(rows["time"], rows["backlog_trace"], color=colour, label=label)
    style.plain_log(first, "y")
    first.set_ylabel("mean sojourn time (ms)")
    second.set_yscale("log")
    second.set_ylim(1e-5, 2)
    second.set_ylabel(f"{style.PROBABILITY} at {table.attrs['deadline'] * 1e3:.3g} ms")
    for axes in (first, second):
        axes.set_xlabel("arrival rate (1/s)")
    third.set_yscale("symlog")
    third.set_xlabel(f"time (s), {table.attrs['trace_rate']:.0f} requests/s")
    third.set_ylabel("requests in the system")
    for axes in (first, second, third):
        axes.grid(True, which="major", color="0.88", linewidth=0.6)
    first.legend(fontsize=8)
    return figure

"""A classifier with exits served under load."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer import _validate
from edgeinfer._extras import need
from edgeinfer.bridge import ExitNetwork, ExitRule, Served, calibrate, deadline_policy, load_exits, poisson, serve_exits
from edgeinfer.bridge.exit import digits as digits_data
from edgeinfer.network.machine import machine
from edgeinfer.paper.measured import store

ACCURACY_LOSS = 0.01
POLICIES = ("none", "exits", "deadline")

PREDICTED = POLICIES[:2]


#: Arrival rate times the median service time without early exits, one request after another. Requests that come after a
#: pause take longer; the last is beyond what can be served without exits.
LOADS = (0.2, 0.4, 0.6, 0.75, 1.3)


#: In that time; the policy's is `DEADLINE`.
DEADLINES = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0)


DEADLINE = 8.0


# Images on which the rates and the policy are set.
_TIMED = 150


def measure(
    out: str | Path = store.FOLDER,
    *,
    requests: int = 4000,
    profiled: int = 600,
    rounds: int = 12,
    loads: Sequence[float] = LOADS,
    seed: int = 12,
    progress: bool = True,
) -> Path:
    """Run the shipped classifier under load and write `exits_under_load.nc`.

    In each round, at each rate, each policy is profiled in a run of its own and then measured in another: what the
    machine does meanwhile falls on both alike. A service time is what the next request has to wait for: from arrival,
    or the answer before, to the answer. The first sixth of each measured run is left out. In all it takes about rounds
    (3 requests + 2 profiled) service times without exits, times the sum of 1 / load: three minutes where those are 0.12
    ms.

    Parameters
    ----------
    out : path
        Folder of the file, which is replaced as a whole.
    requests, profiled, rounds : int
        Requests of a run and of its profile, >= 2, and rounds, >= 2.
    loads : sequence of float
        > 0.
    seed : int
        The seed of arrivals and images.
    progress : bool
        A bar, on a terminal only.

    Returns
    -------
    Path
    """
    xarray = need("xarray", "paper")
    tqdm = need("tqdm", "paper").tqdm
    requests, profiled = _validate.whole("requests", requests, 2), _validate.whole("profiled", profiled, 2)
    rounds = _validate.whole("rounds", rounds, 2)
    shares = np.atleast_1d(_validate.positive("loads", loads))
    network, test = load_exits(), digits_data.load_data("test")
    policies, unit = _policies(network, test.images[:_TIMED])
    rates, deadlines = shares / unit, np.array(DEADLINES) * unit
    times = np.linspace(0, 0.9 * requests / rates[-1], 200)
    shape = (len(policies), len(rates), rounds)
    values = {name: np.empty(shape) for name in ("sojourn", "service", "backlog", "accuracy")}
    violation = np.empty((*shape, len(deadlines)))
    samples = np.empty((len(PREDICTED), len(rates), rounds * profiled), np.float32)
    traces = np.empty((len(policies), len(times)))
    with tqdm(total=rounds * len(rates), disable=None if progress else True, desc="exits under load") as bar:
        for turn, column in np.ndindex(rounds, len(rates)):
            rate = float(rates[column])
            for row, (name, policy) in enumerate(policies.items()):
                if name in PREDICTED:
                    arrivals = poisson(rate, profiled, [seed, turn, column, 0])
                    profile = serve_exits(network, *test, policy, arrivals, [seed, turn, column, 1])
                    samples[row, column, turn * profiled : (turn + 1) * profiled] = _services(profile)
                # All policies meet the same requests at the same times.
                arrivals = poisson(rate, requests, [seed, turn, column, 2])
                run = serve_exits(network, *test, policy, arrivals, [seed, turn, column, 3])
                kept = _without_warmup(run)
                found = (kept.sojourn.mean(), _services(run).mean(), kept.mean_backlog, kept.accuracy)
                for key, value in zip(values, found, strict=True):
                    values[key][row, column, turn] = value
                violation[row, column, turn] = [kept.violation(float(at)) for at in deadlines]
                if column == len(rates) - 1 and not turn:
                    traces[row] = run.backlog(run.arrivals[0] + times)
            bar.update()
    table = xarray.Dataset(
        _variables(values, violation, samples, traces),
        coords={
            "policy": list(policies),
            "predicted": list(PREDICTED),
            "arrival_rate": ("arrival_rate", rates, {"units": "1/s"}),
            "load": ("arrival_rate", shares, {"units": "1"}),
            "deadline": ("deadline", deadlines, {"units": "s"}),
            "time": ("time", times, {"units": "s"}),
        },
        attrs={"requests": requests, "policy_deadline": DEADLINE * unit, "seed": seed, **machine()},
    )
    return store.write(table, Path(out) / "exits_under_load.nc")


def _policies(network: ExitNetwork, images: NDArray[np.float32]) -> tuple[dict[str, Any], float]:
    """The policies by name, and the median service time without early exits, s."""
    validation = network.evaluate(*digits_data.load_data("validation"))
    rule = calibrate(validation, accuracy_loss=ACCURACY_LOSS)
    never = ExitRule(np.full(len(rule.thresholds), np.inf), rule.criterion)
    unit = float(np.median(network.service_times(images, never)))
    adaptive = deadline_policy(validation.with_times(*network.exit_times(images)), rule, DEADLINE * unit)
    return dict(zip(POLICIES, (never, rule, adaptive), strict=True)), unit


def _variables(values: dict[str, Any], violation: Any, samples: Any, traces: Any) -> dict[str, Any]:
    measured = {"provenance": "measured"}
    units = {"sojourn": "s", "service": "s"}
    grid = ("policy", "arrival_rate", "round")
    variables: dict[str, Any] = {
        name: (grid, value, {"units": units.get(name, "1")} | measured) for name, value in values.items()
    }
    variables["violation"] = ((*grid, "deadline"), violation, {"units": "1"} | measured)
    variables["samples"] = (("predicted", "arrival_rate", "sample"), samples, {"units": "s"} | measured)
    variables["backlog_trace"] = (("policy", "time"), traces, {"units": "1"} | measured)
    return variables


def _services(run: Served) -> NDArray[np.float64]:
    """How long each request kept the server, s."""
    return np.asarray(run.ends - np.maximum(run.arrivals, np.r_[-np.inf, run.ends[:-1]]))


def _without_warmup(run: Served) -> Served:
    """The run without its first sixth, which the empty queue at the start makes faster."""
    first = len(run.arrivals) // 6
    return Served(run.arrivals[first:], run.starts[first:], run.ends[first:], run.exits[first:], run.correct[first:])

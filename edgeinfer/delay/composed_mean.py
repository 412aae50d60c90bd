"""The mean sojourn time of pipelines with delays, forks and reviews, from its ends over deadlines and from its paths.

Delays before or behind all queues add their means. What is left is summed as in `edgeinfer.delay.tandem`; beyond the
grid, W is at most the largest over all paths of the sojourn time of the path alone, whose servers have exponential
bounds. A join that waits for all is at least each of its paths.
"""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np

from edgeinfer import _core
from edgeinfer.delay.composed import Floats, check_order, is_composed, review_law, violation_ends
from edgeinfer.delay.constant_servers import faster_twins, has_several_servers, md_c_wait, slower_twin
from edgeinfer.delay.tandem import horizon, integrated, tandem_mean
from edgeinfer.model import Compute, Delay, Fork, Pipeline, Review
from edgeinfer.model.bases import CoreStage, propagation_of

#: Load at which a delay stands in line before itself, which makes it longer.
_RARE = 0.1


def _paths(stages: list[Any]) -> Iterator[list[Any]]:
    """The stages of each path."""
    for at, stage in enumerate(stages):
        if isinstance(stage, Fork):
            for branch in stage.branches:
                yield from _paths([*stages[:at], *branch, *stages[at + 1 :]])
            return
    yield stages


def _horizon(path: list[Any], rate: float, mean: float) -> tuple[float, float]:
    """A time that the sojourn time of a path hardly exceeds, and a bound on the mean of what it exceeds that by.

    (V + Z - v - z)+ <= (V - v)+ + (Z - z)+ for V in the queues and each random delay Z, which is no longer than the
    sojourn time of such services in a queue.
    """
    queues: list[CoreStage] = []
    end = 0.0
    each = []
    for stage in path:
        if isinstance(stage, Review):
            queues.append(("compound", review_law(stage)))
            continue
        (core,) = (stage.stage if isinstance(stage, Delay) else stage).core_stages()
        end += propagation_of(core)
        if not isinstance(stage, Delay):
            queues.append(core[:2])
        elif core[0] == "deterministic":
            end += core[1]
        elif (length := float(_core.service_moments([core[:2]])[0][0])) > 0:
            each.append(horizon(_core.Stages([core[:2]]), _RARE / length, length))
    if queues:
        each.append(horizon(_core.Stages(queues), rate, mean))
    return end + sum(last for last, _ in each), sum(beyond for _, beyond in each)


def composed_mean(pipeline: Pipeline, rate: float, effort: str = "fast") -> tuple[float, float, str, str]:
    """Both ends of the mean sojourn time, s, with the formula of each.

    Parameters
    ----------
    pipeline : Pipeline
        Of shape ().
    rate : float, 1/s
        Of Poisson arrivals.
    effort : str
        Of what is integrated.

    Returns
    -------
    lower, upper : float
        Both inf where a server is unstable.
    lower_method, upper_method : str
        As `tandem_mean` has them.

    Examples
    --------
    >>> from edgeinfer.model import Exponential
    >>> composed_mean(Pipeline([Exponential(0.5, "server"), Delay(Exponential(1.0, "device"))]), 1.0)
    (2.0, 2.0, 'exact', 'exact')
    """
    check_order(pipeline.stages)
    if (pipeline.loads(rate) >= 1).any():
        return np.inf, np.inf, "unstable", "unstable"
    if has_several_servers(pipeline):
        return _several_servers(pipeline, rate, effort)
    delays = [stage for stage in pipeline if isinstance(stage, Delay)]
    added = sum(float(stage.mean()) for stage in delays)
    queues: list[Any] = [stage for stage in pipeline if not isinstance(stage, Delay)]
    at = 0
    while at < len(queues):
        if not isinstance(queues[at], Fork) or len(queues[at].branches) > 1:
            at += 1
            continue
        # A fork of one branch is that.
        inside = list(queues[at].branches[0])
        added += sum(float(stage.mean()) for stage in inside if isinstance(stage, Delay))
        queues[at : at + 1] = [stage for stage in inside if not isinstance(stage, Delay)]
    if not queues:
        return added, added, "exact", "exact"
    if not any(isinstance(stage, Fork | Review) for stage in queues):
        core = [stage.core_stages()[0] for stage in queues]
        behind = added + sum(map(propagation_of, core))
        lower, upper, *methods = tandem_mean(core, rate, effort)
        return lower + behind, upper + behind, methods[0], methods[1]
    low, high = _summed(queues, rate, effort)
    return low + added, high + added, "integrated", "integrated"


def _several_servers(pipeline: Pipeline, rate: float, effort: str) -> tuple[float, float, str, str]:
    """The ends of twins of single servers; exact for M/D/c alone, by Little's law."""
    queues = [stage for stage in pipeline if not isinstance(stage, Delay)]
    if len(queues) == 1 and isinstance(queues[0], Compute):
        with suppress(ValueError):
            queue = md_c_wait(rate, float(queues[0].mean()), queues[0].servers)
            value = float(queue.queue.sum()) / rate + sum(float(stage.mean()) for stage in pipeline)
            return value, value, "exact", "exact"
    lower = [(_twin_mean(twin, rate, effort)[0], name) for name, twin in faster_twins(pipeline)]
    return *max(lower)[:1], _twin_mean(slower_twin(pipeline), rate, effort)[1], max(lower)[1], "fast_server"


def _twin_mean(twin: Pipeline, rate: float, effort: str) -> tuple[float, float]:
    if is_composed(twin):
        return composed_mean(twin, rate, effort)[:2]
    behind = float(twin.propagation().sum())
    lower, upper, *_ = tandem_mean([stage.core_stages()[0] for stage in twin], rate, effort)
    return lower + behind, upper + behind


def _summed(queues: list[Any], rate: float, effort: str) -> tuple[float, float]:
    """Ends over deadlines, integrated."""
    rest = Pipeline(queues)
    mean = float(rest.moments()[0].sum() + rest.propagation().sum())
    end, tail = 0.0, 0.0
    for path in _paths(queues):
        last, beyond = _horizon(path, rate, mean)
        end, tail = max(end, last), tail + beyond

    def ends(times: Floats, effort: str) -> tuple[Floats, Floats]:
        found = violation_ends(rest, rate, times, effort)
        return found.lower, found.upper

    return integrated(ends, end, tail, mean, effort)

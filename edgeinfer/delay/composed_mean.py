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


def _paths(stages: list[Any]) -> Iterator[list[CoreStage]]:
    """Servers of each path; a random delay, which stands behind them, as one more: that takes no less time."""
    for at, stage in enumerate(stages):
        if isinstance(stage, Fork):
            for branch in stage.branches:
                yield from _paths([*stages[:at], *branch, *stages[at + 1 :]])
            return
    core: list[CoreStage] = []
    for stage in stages:
        if isinstance(stage, Review):
            core.append(("compound", review_law(stage)))
        else:
            core.extend(stage.stage.core_stages() if isinstance(stage, Delay) else stage.core_stages())
    yield core


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
    mean = float(rest.moments()[0].sum())
    end, tail = 0.0, 0.0
    for path in _paths(queues):
        last, beyond = horizon(_core.Stages([stage[:2] for stage in path]), rate, mean)
        end, tail = max(end, last), tail + beyond

    def ends(times: Floats, effort: str) -> tuple[Floats, Floats]:
        found = violation_ends(rest, rate, times, effort)
        return found.lower, found.upper

    return integrated(ends, end, tail, mean, effort)

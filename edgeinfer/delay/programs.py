"""What a simulation follows: a pipeline's servers, how they stand to each other, and what is known of its stages."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeinfer import _core, _validate
from edgeinfer.delay._elements import check_independent, check_pipeline, elements
from edgeinfer.delay.composed import check_order, is_composed, is_constant
from edgeinfer.model import Delay, Fork, Pipeline, Review
from edgeinfer.model.bases import CoreStage, propagation_of
from edgeinfer.model.composition import law_of

Node = tuple[str, int, int, int, float]


class Program(NamedTuple):
    """One pipeline as the core simulates it.

    Attributes
    ----------
    servers : _core.Stages
        All service laws.
    nodes : tuple or None
        How they stand to each other, as csrc/edgeinfer/tandem.h has it; None: one behind the other.
    means, variances, works : (stages,) ndarray
        Of the time of a lone request in each stage (s, s^2), and the work that it brings to the busiest server there.
    numbers : (stages,) ndarray
        Servers.
    delays : (stages,) ndarray, s
        Behind the stages of a plain pipeline; in others they are part of the stages.
    """

    servers: _core.Stages
    nodes: tuple[Node, ...] | None
    means: NDArray[np.float64]
    variances: NDArray[np.float64]
    works: NDArray[np.float64]
    numbers: NDArray[np.float64]
    delays: NDArray[np.float64]


def compile_stages(stages: Any, services: list[CoreStage], nodes: list[Node]) -> None:
    """Append the services of stages, and the nodes that say how they stand to each other."""
    for stage in stages:
        if isinstance(stage, Fork):
            nodes.append(("fork", 0, len(stage.branches), stage.needed, 0.0))
            for branch in stage.branches:
                nodes.append(("branch", 0, len(branch), 0, 0.0))
                compile_stages(branch, services, nodes)
            continue
        kind, share = "server", 0.0
        if isinstance(stage, Review):
            kind, share, stage = "review", float(stage.probability), stage.stage
        elif isinstance(stage, Delay):
            kind, stage = "delay", stage.stage
        if stage.servers > 1:
            nodes.append(("servers", len(services), stage.servers, 0, 0.0))
            services.append(("deterministic", float(stage.mean())))
            continue
        core = stage.core_stages()[0]
        if kind == "delay" and propagation_of(core):
            core = ("compound", law_of((stage,)))
        if propagation_of(core):
            # A server and a constant delay behind it, as one stage.
            nodes += [("fork", 0, 1, 1, 0.0), ("branch", 0, 2, 0, 0.0)]
        nodes.append((kind, len(services), 0, 0, share))
        services.append(core[:2])
        if propagation_of(core):
            nodes.append(("delay", len(services), 0, 0, 0.0))
            services.append(("deterministic", propagation_of(core)))


def _program(pipeline: Pipeline) -> Program:
    services: list[CoreStage] = []
    nodes: list[Node] = []
    compile_stages(pipeline, services, nodes)
    means, variances = pipeline.moments()
    none = np.zeros(len(pipeline))
    means = means + pipeline.propagation()
    numbers = np.array([getattr(stage, "servers", 1) for stage in pipeline], dtype=np.float64)
    return Program(_core.Stages(services), tuple(nodes), means, variances, pipeline.loads(1.0), numbers, none)


def check_simulated(pipeline: Pipeline, poisson: bool, service: str, link: str) -> None:
    """Refuse what no lane can follow.

    Raises
    ------
    ValueError
        Naming what it is, and a way on.
    """
    check_order(pipeline.stages)
    check_independent("simulate beside a Delay, Fork, Review or several servers", pipeline)
    what = "a pipeline with a Delay, Fork, Review or several servers"
    if service == "serial":
        raise ValueError(
            f"service = 'serial': must be 'tandem' for {what}; a `Session` holds one server for all of its stages"
        )
    if link == "wall_clock":
        raise ValueError(f"link = 'wall_clock': must be 'table' or 'slots' for {what}")
    first = pipeline[0]
    if isinstance(first, Delay) and not is_constant(first) and not poisson:
        raise ValueError(
            f"Delay {first.name!r}: must stand behind the queues unless arrivals are Poisson, since it displaces them; "
            "put it last, which gives the same sum for any one request, or use a rate"
        )


def programs(
    pipeline: Pipeline, **arguments: Any
) -> tuple[tuple[int, ...], Iterator[tuple[Program, NDArray[np.intp], list[NDArray[np.float64]]]]]:
    """As `elements`, with each pipeline's program."""
    check_pipeline(pipeline)
    if not is_composed(pipeline):
        shape, plain = elements(pipeline, **arguments)

        def each() -> Iterator[tuple[Program, NDArray[np.intp], list[NDArray[np.float64]]]]:
            for stages, where, columns in plain:
                means, variances = _core.service_moments(stages)
                yield (
                    Program(stages, None, means, variances, means, np.ones(means.shape), stages.delays),
                    where,
                    columns,
                )

        return shape, each()
    shape = _validate.broadcast_shapes(
        pipeline=pipeline.shape, **{name: np.shape(value) for name, value in arguments.items()}
    )
    owner = np.broadcast_to(np.arange(int(np.prod(pipeline.shape))).reshape(pipeline.shape), shape).ravel()
    flat = [_validate.flat(value, shape) for value in arguments.values()]

    def walk() -> Iterator[tuple[Program, NDArray[np.intp], list[NDArray[np.float64]]]]:
        for index in np.unique(owner):
            where = np.flatnonzero(owner == index)
            single = pipeline.element(int(index)) if pipeline.shape else pipeline
            yield _program(single), where, [column[where] for column in flat]

    return shape, walk()

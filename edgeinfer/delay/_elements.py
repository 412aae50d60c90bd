"""One call of the core for each pipeline of a family, over all the arguments that go with it."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeinfer import _core, _validate
from edgeinfer.model import ArrivalProcess, Batch, MarkovModulated, Pipeline, Poisson, Transfer
from edgeinfer.model.arrivals import CoreArrival, arrival_process

#: Of a time, more than some sixty additions of constants lose.
ROUNDING = 2.0**-47
#: Of a `MarkovModulated` process that has bounds.
MOST_BOUNDED_PHASES = 16
#: Of a `Batch` whose rare delays are sampled.
MOST_SAMPLED_BATCH = 4096
RENEWAL = "a rate or a renewal process, Poisson, Periodic, Erlang, Hyperexponential or Gamma"


def check_pipeline(pipeline: Any) -> Pipeline:
    if isinstance(pipeline, Pipeline):
        return pipeline
    way = "as `Pipeline(stages)` makes one"
    if callable(getattr(pipeline, "pipeline", None)):
        way = "as its `pipeline()` makes one"
    elif callable(getattr(pipeline, "pipelines", None)):
        way = "such as one of its `pipelines()`"
    elif hasattr(pipeline, "terminals"):
        way += "; `cell_bracket` and `simulate_cell` take a Cell"
    elif isinstance(pipeline, Mapping):
        way = "such as one of these"
    raise ValueError(f"pipeline = {_validate.shown(pipeline)}: must be a Pipeline, {way}")


def check_independent(function: str, pipeline: Any) -> None:
    """ValueError where services that follow each other depend on each other, as those over a channel do."""
    for stage in check_pipeline(pipeline).inner:
        if isinstance(stage, Transfer) and stage.dependent:
            raise ValueError(
                f"{function}: stage {stage.name!r} goes over a {type(stage.link).__name__}, whose transfers depend on "
                "each other: what is computed here is proved for independent services only; `simulate` takes it among "
                "stages in series, and the `quantile_interval` of what it returns has deadlines"
            )


def poisson_rate(arrival_rate: ArrayLike | ArrivalProcess) -> Any:
    """The rate of Poisson arrivals, as a number or a process; ValueError for another process."""
    if isinstance(arrival_rate, ArrivalProcess) and not isinstance(arrival_rate, Poisson):
        raise ValueError(
            f"arrival_rate = {type(arrival_rate).__name__}(..): must be a rate or Poisson(rate): what is computed here "
            "is proved for Poisson arrivals only; `violation_bracket` of a pipeline of stages in series takes renewal "
            "processes and MarkovModulated, `simulate` all"
        )
    rate = arrival_rate.rate if isinstance(arrival_rate, Poisson) else arrival_rate
    return _validate.positive("arrival_rate", rate, "1/s")


def in_time(deadline: Any) -> Any:
    """A deadline and what rounding may add to a sum of times, so that a request that takes just as long is not late."""
    with np.errstate(over="ignore"):
        return np.asarray(deadline) * (1 + ROUNDING)


def remaining(pipeline: Pipeline, deadline: Any) -> tuple[Any, Any]:
    """What the propagation of a pipeline's links leaves of a deadline, >= 0, and where it leaves nothing.

    Constant delays move all that follows by themselves, and hold nobody up: P(W > T) = P(W - delays > T - delays).
    """
    left = np.asarray(deadline) - check_pipeline(pipeline).propagation().sum(axis=-1)
    return np.maximum(left, 0.0), left < 0


def elements(
    pipeline: Pipeline, **arguments: Any
) -> tuple[tuple[int, ...], Iterator[tuple[_core.Stages, NDArray[np.intp], list[NDArray[np.float64]]]]]:
    """The common shape; and for each pipeline its core stages, the flat positions and the arguments there."""
    check_pipeline(pipeline)
    shape = _validate.broadcast_shapes(
        pipeline=pipeline.shape, **{name: np.shape(value) for name, value in arguments.items()}
    )

    def walk() -> Iterator[tuple[_core.Stages, NDArray[np.intp], list[NDArray[np.float64]]]]:
        size = int(np.prod(pipeline.shape))
        owner = np.broadcast_to(np.arange(size).reshape(pipeline.shape), shape).ravel()
        columns = [_validate.flat(value, shape) for value in arguments.values()]
        order = np.argsort(owner, kind="stable")
        starts = np.searchsorted(owner[order], np.arange(size + 1))
        for i, stages in enumerate(pipeline.elements()):
            where = order[starts[i] : starts[i + 1]]
            if where.size:
                yield stages, where, [column[where] for column in columns]

    return shape, walk()


def process_with_bounds(value: ArrayLike | ArrivalProcess, name: str = "arrival_rate") -> ArrivalProcess:
    """The process that stands in `value`; ValueError where nothing bounds the waits behind it."""
    process = arrival_process(value, name)
    if isinstance(process, MarkovModulated):
        if process.rates.size > MOST_BOUNDED_PHASES:
            raise ValueError(
                f"{name} = MarkovModulated(..): has {process.rates.size} phases: must have at most "
                f"{MOST_BOUNDED_PHASES} for a bound; `simulate` takes all"
            )
    elif not process.renewal:
        raise ValueError(
            f"{name} = {type(process).__name__}(..): must be {RENEWAL}, or MarkovModulated: the proofs need times "
            "between arrivals that depend on nothing, or on the phase of a Markov chain alone; `rare_violation` takes "
            "a Batch of these, too, and `simulate` every process"
        )
    return process


def sampled_process(value: ArrayLike | ArrivalProcess, name: str = "arrival_rate") -> ArrivalProcess:
    """The process that stands in `value`; ValueError where its rare delays cannot be sampled."""
    process = arrival_process(value, name)
    if not isinstance(process, Batch):
        return process_with_bounds(process, name)
    if process._above.size > MOST_SAMPLED_BATCH:
        raise ValueError(
            f"{name} = Batch(..): has batches of {process._above.size} requests: must be at most {MOST_SAMPLED_BATCH} "
            "where rare delays are sampled; `simulate` takes all"
        )
    process_with_bounds(process.process, name)
    return process


def core_arrival(process: ArrivalProcess) -> CoreArrival:
    """A single process as the core takes it."""
    return process._core(process._rows()[0])


def renewal_elements(
    pipeline: Pipeline, process: ArrivalProcess, **arguments: Any
) -> tuple[
    tuple[int, ...],
    Iterator[tuple[_core.Stages, ArrivalProcess, NDArray[np.intp], list[NDArray[np.float64]]]],
]:
    """As `elements`, for each shape of arrivals apart, at any rate where it is a renewal process.

    The rates are the first argument.
    """
    rows, place = np.unique(process._rows(), axis=0, return_inverse=True)
    rates = np.array([process._rate(row) for row in rows])
    # A family's first parameter is its rate or interval; the others are its shape.
    _, first, kinds = np.unique(rows[:, 1:], axis=0, return_index=True, return_inverse=True)
    shapes = [process.element(int(np.flatnonzero(place.ravel() == row)[0])) for row in first]
    shape, walk = elements(pipeline, arrival_rate=place.reshape(process.shape), **arguments)

    def split() -> Iterator[tuple[_core.Stages, ArrivalProcess, NDArray[np.intp], list[NDArray[np.float64]]]]:
        for stages, where, (places, *columns) in walk:
            index = places.astype(np.intp)
            for kind in np.unique(kinds.ravel()[index]):
                inside = kinds.ravel()[index] == kind
                values = [rates[index[inside]], *(column[inside] for column in columns)]
                yield stages, shapes[int(kind)], where[inside], values

    return shape, split()


def finish(values: NDArray[Any], shape: tuple[int, ...]) -> Any:
    """Reshaped; a Python scalar where the shape is ()."""
    values = values.reshape(shape)
    return values.item() if values.ndim == 0 else values

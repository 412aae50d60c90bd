"""What a request takes in energy."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer import _validate
from edgeinfer.delay._elements import check_pipeline
from edgeinfer.model import Delay, Fork, Node, Pipeline, Review, Session, Transfer


def sending_power(stage: Any) -> Any:
    """What a stage takes to send, W; 0 where its link does not say, and for a stage that computes."""
    power = getattr(stage.link, "tx_power_dbm", None) if isinstance(stage, Transfer) else None
    return 0.0 if power is None else 10 ** ((np.asarray(power) - 30) / 10)


def energy(pipeline: Pipeline, power: Mapping[Any, Any]) -> NDArray[np.float64]:
    """Mean energy of a request at each stage, J: the power there times the mean service time.

    What a node takes while it waits is not in it; `simulate_cell` has that of many terminals.

    Parameters
    ----------
    pipeline : Pipeline
        Stages `Measured` with a confidence have the mean of their slowest laws.
    power : mapping of str or Node to (...,) array_like, W
        By names of stages, those within a `Session`, `Fork`, `Delay` or `Review` among them; >= 0. By a `Node`: of all
        stages there, and those of its name, as a `bridge.Cut` has them; there may be none. Other stages that compute
        take nothing, and other transfers the transmit power of their link, if it has one. So a device's own energy is
        that with its stages named, and 0 for what others send.

    Returns
    -------
    (..., stages) ndarray, J
        A session's with all of its rounds, a fork's of all branches, a review's times its probability.

    Raises
    ------
    ValueError
        For a name that no stage has, and powers outside their range.

    Examples
    --------
    >>> from edgeinfer import Constant, RayleighLink
    >>> link = RayleighLink(5e6, tx_power_dbm=23, noise_dbm=-100, path_loss_db=105, slot=0.005)
    >>> pipeline = Pipeline([Constant(0.03, "encode"), Transfer(2e5, link, "uplink"), Constant(0.01, "edge")])
    >>> energy(pipeline, {"encode": 4.0}).round(4)
    array([0.12  , 0.0016, 0.    ])
    """
    check_pipeline(pipeline)
    if not isinstance(power, Mapping):
        raise ValueError(f"power = {_validate.shown(power)}: must be a mapping of names of stages to W")
    names = {stage.name for stage in pipeline.inner}
    given: dict[str, Any] = {}
    for key, value in power.items():
        watts = _validate.real(f"power[{getattr(key, 'name', key)!r}]", value, 0, unit="W")
        if isinstance(key, Node):
            given |= {stage.name: watts for stage in pipeline.inner if _is_at(stage, key)}
        elif key in names:
            given[key] = watts
        else:
            raise ValueError(
                f"power[{key!r}]: must be a Node, or a stage's name, {', '.join(sorted(map(repr, names)))}"
            )
    parts = [np.asarray(_joule(stage, given), dtype=np.float64) for stage in pipeline]
    shape = np.broadcast_shapes(pipeline.shape, *(part.shape for part in parts))
    return np.stack([np.broadcast_to(part, shape) for part in parts], axis=-1)


def _is_at(stage: Any, node: Node) -> bool:
    return not isinstance(stage, Transfer) and (getattr(stage, "node", None) == node or stage.name == node.name)


def _joule(stage: Any, power: Mapping[str, Any]) -> Any:
    if isinstance(stage, Session):
        return stage.mean_rounds * sum(_joule(part, power) for part in stage.stages)
    if isinstance(stage, Fork):
        return sum(_joule(part, power) for branch in stage.branches for part in branch)
    if isinstance(stage, Delay):
        return _joule(stage.stage, power)
    if isinstance(stage, Review):
        return np.multiply(stage.probability, _joule(stage.stage, power))
    return np.multiply(power.get(stage.name, sending_power(stage)), stage.mean())

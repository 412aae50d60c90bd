"""Which of the three paradigms is best, by which criterion."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from edgeinfer import _validate
from edgeinfer._extras import need
from edgeinfer.delay import latency, mean_sojourn, violation_bound
from edgeinfer.model import Pipeline

#: Criteria of `best_paradigm`, each the smaller the better.
CRITERIA = ("latency", "mean_sojourn", "violation")


def _scenario(value: Any) -> Any:
    if not is_dataclass(value) or not hasattr(value, "pipelines"):
        raise ValueError(f"scenario = {_validate.shown(value)}: must be a Scenario, as paper.scenario() is")
    return value


def _axis(name: str, value: Any) -> tuple[str, Any]:
    if not isinstance(value, list | tuple) or len(value) != 2 or not isinstance(value[0], str):
        raise ValueError(f"{name} = {value!r}: must be the name of a field and its values")
    return value[0], value[1]


def split_conditions(scenario: Any) -> tuple[Any, Any]:
    """Conditions (13) and (14) of the paper: split inference beats edge only, and device only, by latency.

    (J_img - J_dl) / E[R] > (O_D + O_dec L_dec) (1 / f_UE - 1 / f_ES) and
    J_dl / E[R] < (O_E + O_prior L_prior) (1 / f_UE - 1 / f_ES). Both compare unloaded latencies with the paper's
    J / E[R] alone: they say nothing of a loaded system.

    Parameters
    ----------
    scenario : Scenario
        Its parameters may be arrays.

    Returns
    -------
    tuple of bool or (...,) ndarray of bool

    Examples
    --------
    >>> from edgeinfer import paper
    >>> [bool(holds) for holds in split_conditions(paper.scenario())]
    [True, True]
    """
    cascade, rate = _scenario(scenario).cascade, scenario.link.mean_rate()
    slower = 1 / scenario.device.flops - 1 / scenario.edge.flops
    saved = (cascade.image_bits - cascade.latent_bits) / rate
    return (
        saved > cascade.decode_work(scenario.decode_steps) * slower,
        cascade.latent_bits / rate < cascade.prior_work(scenario.prior_steps) * slower,
    )


def gains(scenario: Any, transfer: str = "ergodic") -> tuple[Any, Any]:
    """Relative savings eta_T (latency) and eta_J (bits) of split over edge-only inference.

    Parameters
    ----------
    scenario : Scenario
    transfer : {"ergodic", "exact"}
        It is as for `latency`; the paper uses J / E[R].

    Returns
    -------
    tuple of float or (...,) ndarray

    Examples
    --------
    >>> from edgeinfer import paper
    >>> eta_latency, eta_bits = gains(paper.scenario())
    >>> round(float(eta_latency), 3), round(eta_bits, 3)
    (0.026, 0.8)
    """
    pipelines = _scenario(scenario).pipelines()
    edge = latency(pipelines["edge_only"], transfer).total
    split = latency(pipelines["split"], transfer).total
    return (edge - split) / edge, (scenario.image_bits - scenario.latent_bits) / scenario.image_bits


def criterion_values(
    pipelines: dict[str, Pipeline], arrival_rate: Any, criterion: str, *, deadline: Any = None, method: str = "bracket"
) -> dict[str, Any]:
    """The criterion's value for each paradigm.

    Parameters
    ----------
    pipelines : dict of str to Pipeline
    arrival_rate : (...,) array_like, 1/s
    criterion : {"latency", "mean_sojourn", "violation"}
        Unloaded mean latency (s); mean sojourn time with serial service, (5) (s); certified bound on the violation
        probability of the tandem.
    deadline : (...,) array_like, s
        For "violation".
    method : str
        It is as for `violation_bound`.

    Returns
    -------
    dict of str to float or (...,) ndarray

    Examples
    --------
    >>> from edgeinfer import paper
    >>> values = criterion_values(paper.scenario().pipelines(), 0.35, "violation", deadline=6.0)
    >>> {name: float(f"{value:.2g}") for name, value in values.items()}
    {'split': 2.7e-05, 'edge_only': 0.0011, 'device_only': 0.59}
    """
    _validate.choice("criterion", criterion, CRITERIA)
    if not isinstance(pipelines, Mapping):
        raise ValueError(f"pipelines = {pipelines!r}: must be a mapping of names to pipelines")
    if criterion == "latency":
        return {name: latency(pipeline).total for name, pipeline in pipelines.items()}
    if criterion == "mean_sojourn":
        return {name: mean_sojourn(pipeline, arrival_rate) for name, pipeline in pipelines.items()}
    if deadline is None:
        raise ValueError("deadline = None: criterion 'violation' needs one, in s")
    return {name: violation_bound(p, arrival_rate, deadline, method) for name, p in pipelines.items()}


def best_paradigm(scenario: Any, criterion: str = "latency", *, deadline: Any = None, method: str = "bracket") -> Any:
    """Name of the paradigm with the least value of a criterion.

    Parameters
    ----------
    scenario : Scenario
    criterion, deadline, method
        They are as for `criterion_values`.

    Returns
    -------
    str or (...,) ndarray of str
        "none" where no paradigm is stable, or no bound below 1 exists for any.

    Examples
    --------
    >>> from edgeinfer import paper
    >>> best_paradigm(paper.scenario()), best_paradigm(paper.scenario(), "violation", deadline=6.0)
    ('split', 'split')
    """
    pipelines = _scenario(scenario).pipelines()
    values = criterion_values(pipelines, scenario.arrival_rate, criterion, deadline=deadline, method=method)
    stack = np.stack(np.broadcast_arrays(*(np.asarray(value) for value in values.values())))
    names = np.array([*values, "none"])
    hopeless = np.isinf(stack).all(axis=0) | ((stack >= 1).all(axis=0) & (criterion == "violation"))
    answer = names[np.where(hopeless, len(values), stack.argmin(axis=0))]
    return str(answer) if answer.ndim == 0 else answer


def dominance(
    scenario: Any, x: tuple[str, Any], y: tuple[str, Any], *, deadline: float, method: str = "bracket"
) -> Any:
    """Where each paradigm wins over two parameters, by every criterion.

    Parameters
    ----------
    scenario : Scenario
    x, y : (name, (n,) array_like)
        Scenario fields and their values.
    deadline : float, s
    method : str
        It is as for `violation_bound`.

    Returns
    -------
    xarray.Dataset
        `winner` (criterion, y, x), names of paradigms; `disagree` (y, x), whether the criteria differ; `conditions`
        (y, x), whether (13) and (14) both hold.

    Examples
    --------
    >>> from edgeinfer import paper
    >>> grid = dominance(paper.scenario(), ("device_flops", [70e12, 300e12]), ("arrival_rate", [0.1]), deadline=6.0)
    >>> grid["winner"].sel(criterion="latency").values
    array([['split', 'device_only']], dtype=...)
    """
    xarray = need("xarray", "study")
    known = {field.name for field in fields(_scenario(scenario))}
    (x_name, x_values), (y_name, y_values) = _axis("x", x), _axis("y", y)
    for name in (x_name, y_name):
        if name not in known:
            raise ValueError(f"{name}: must be one of {', '.join(sorted(known))}")
    if x_name == y_name:
        raise ValueError(f"x and y are both {x_name}: must differ")
    columns, rows = (
        np.atleast_1d(_validate.real(name, values, unit=scenario.units[name]))
        for name, values in ((x_name, x_values), (y_name, y_values))
    )
    if columns.ndim != 1 or rows.ndim != 1:
        raise ValueError(f"x, y of shapes {columns.shape}, {rows.shape}: must be one-dimensional")
    deadline = _validate.scalar("deadline", deadline, 0, infinite=True, unit="s")
    shape = (rows.size, columns.size)
    grid = scenario.replace(**{x_name: np.tile(columns, (rows.size, 1)), y_name: np.tile(rows[:, None], columns.size)})
    winners = [np.broadcast_to(best_paradigm(grid, c, deadline=deadline, method=method), shape) for c in CRITERIA]
    first, second = split_conditions(grid)
    winner = np.stack(winners)
    dims = (y_name, x_name)
    return xarray.Dataset(
        {
            "winner": (("criterion", *dims), winner, {"provenance": "derived"}),
            "disagree": (dims, (winner != winner[0]).any(axis=0), {"provenance": "derived"}),
            "conditions": (dims, np.broadcast_to(first & second, shape), {"provenance": "derived"}),
        },
        coords={
            "criterion": list(CRITERIA),
            x_name: (x_name, columns, {"units": scenario.units[x_name]}),
            y_name: (y_name, rows, {"units": scenario.units[y_name]}),
        },
        attrs={"deadline": deadline, "method": method},
    )

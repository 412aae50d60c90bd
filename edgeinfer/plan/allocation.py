"""How many prior and decoding steps: the cheapest that reach a quality."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from edgeinfer import _validate
from edgeinfer.delay import latency, violation_bound
from edgeinfer.model import Cascade, Node, Pipeline, RayleighLink, device_only, edge_only, split

PARADIGMS = {"split": split, "edge_only": edge_only, "device_only": device_only}
#: Which values of our own metrics are better, for surfaces that have lost their attributes.
BETTER = {
    "attributes": "higher",
    "clip": "higher",
    "fid": "lower",
    "kid": "lower",
    "lpips": "lower",
    "psnr": "higher",
}


@dataclass(frozen=True, eq=False)
class Allocation(_validate.Value):
    """Steps that reach a quality, what they give and what they cost; arrays of the quality's shape, or numbers.

    Attributes
    ----------
    prior_steps, decode_steps : int
    quality : float
        On the surface, the interval's bad end or the mean, as was asked for.
    latency : float, s
        Unloaded mean.
    violation : float or None
        Certified bound on the violation probability, where that was the criterion.
    """

    prior_steps: Any
    decode_steps: Any
    quality: Any
    latency: Any
    violation: Any = None


def allocate_steps(
    cascade: Cascade | Callable[[int, int], Any],
    surface: Any,
    quality: ArrayLike,
    edge: Node | None = None,
    device: Node | None = None,
    link: RayleighLink | None = None,
    *,
    paradigm: str = "split",
    metric: str | None = None,
    end: str = "interval",
    criterion: str = "latency",
    arrival_rate: float | None = None,
    deadline: float | None = None,
) -> Allocation:
    """The cheapest (prior, decode) steps that reach a quality.

    Parameters
    ----------
    cascade : Cascade, or callable
        What steps cost on `edge`, `device` and `link`; or cascade(prior_steps, decode_steps) -> Pipeline, or a dict of
        them by paradigm, such as measured ones.
    surface : xarray.Dataset
        Quality over prior_steps and decode_steps, as `quality.surface` gives it. A variable's attribute `better` says
        whether it is better "higher" or "lower"; those named as the metrics of `edgeinfer.quality` need none.
    quality : (...,) array_like
        To reach, in the metric's units.
    edge, device : Node
    link : RayleighLink
        Needed with a Cascade.
    paradigm : {"split", "edge_only", "device_only"}
    metric : str, optional
        The surface's variable; its only one by default.
    end : {"interval", "mean"}
        Whether the bad end of the interval has to reach the quality (the upper one for a metric that is better when
        lower), or the mean.
    criterion : {"latency", "violation"}
        What is to be least: the unloaded mean latency, or the certified bound on the probability that the sojourn
        time exceeds `deadline` at `arrival_rate`; the latter's ties, as where no steps are stable, go by latency.
    arrival_rate : float, 1/s
    deadline : float, s
        For "violation".

    Returns
    -------
    Allocation

    Raises
    ------
    ValueError
        Where no steps on the surface reach the quality, naming the best there is; where the surface does not say which
        of its values are better; for bad arguments.

    Examples
    --------
    >>> import xarray
    >>> from edgeinfer import paper
    >>> steps = {"prior_steps": [1, 8, 32], "decode_steps": [1, 4]}
    >>> score = (("prior_steps", "decode_steps"), [[70.0, 80.0], [85.0, 95.0], [86.0, 96.0]])
    >>> table = xarray.Dataset({"clip": score}, coords=steps)
    >>> s = paper.scenario()
    >>> found = allocate_steps(s.cascade, table, [75, 90], s.edge, s.device, s.link, metric="clip", end="mean")
    >>> found.prior_steps, found.decode_steps
    (array([1, 8]), array([4, 4]))
    """
    _validate.choice("criterion", criterion, ("latency", "violation"))
    wanted = _validate.real("quality", quality)
    name, values, higher = _values(surface, metric, end)
    prior, decode = (np.asarray(surface[axis].values) for axis in ("prior_steps", "decode_steps"))
    cells = [grid.ravel() for grid in np.meshgrid(prior, decode, indexing="ij")]
    pipelines = _pipelines(cascade, cells, paradigm, edge, device, link)
    delay = np.concatenate([np.atleast_1d(latency(pipeline).total) for pipeline in pipelines])
    violation = None
    order = np.argsort(delay, kind="stable")
    if criterion == "violation":
        if arrival_rate is None or deadline is None:
            raise ValueError(f"arrival_rate = {arrival_rate}, deadline = {deadline}: criterion 'violation' needs both")
        violation = np.concatenate([np.atleast_1d(violation_bound(p, arrival_rate, deadline)) for p in pipelines])
        order = np.lexsort((delay, violation))
    # Best quality among the cheapest 1, 2, .. cells: the first that suffices is the cheapest that does; gaps never do.
    sign = 1 if higher else -1
    worth = np.where(np.isnan(values), -np.inf, sign * values)
    reached = np.maximum.accumulate(worth[order])
    enough = reached >= sign * np.asarray(wanted)[..., None]
    if not enough[..., -1].all():
        best = int(np.argmax(worth))
        short = np.asarray(wanted)[~enough[..., -1]]
        raise ValueError(
            f"quality = {short.ravel()[0]:g}: no steps reach it: the best {name} is {values[best]:.6g} "
            f"({'mean' if end == 'mean' else 'bad end of the interval'}), "
            f"at prior_steps = {cells[0][best]}, decode_steps = {cells[1][best]}"
        )
    at = order[enough.argmax(axis=-1)]
    return Allocation(cells[0][at], cells[1][at], values[at], delay[at], None if violation is None else violation[at])


def _values(surface: Any, metric: str | None, end: str) -> tuple[str, np.ndarray, bool]:
    _validate.choice("end", end, ("interval", "mean"))
    axes = ("prior_steps", "decode_steps")
    if not (hasattr(surface, "data_vars") and all(axis in surface.indexes for axis in axes)):
        raise ValueError(
            f"surface = {surface!r}: must be a Dataset over {' and '.join(axes)}, as `quality.surface` gives"
        )
    surface = surface.transpose(*axes, ...)
    names = [str(n) for n, v in surface.data_vars.items() if v.dims == axes and not str(n).endswith(("_low", "_high"))]
    if not names:
        raise ValueError(f"surface: has no variable over {' and '.join(axes)} alone: must have one, for its quality")
    if metric is None:
        if len(names) != 1:
            raise ValueError(f"metric = None: must be one of {', '.join(names)}")
        metric = names[0]
    _validate.choice("metric", metric, tuple(names))
    better = surface[metric].attrs.get("better", BETTER.get(metric.lower()))
    if better not in ("higher", "lower"):
        raise ValueError(
            f"surface[{metric!r}].attrs['better'] = {better!r}: must be 'higher' or 'lower', whichever of its values "
            "are better; set it"
        )
    higher = better == "higher"
    column = metric if end == "mean" else f"{metric}_{'low' if higher else 'high'}"
    if column not in surface:
        raise ValueError(f"surface: has no {column}: must have it for end = 'interval'")
    return metric, np.asarray(surface[column].values, dtype=np.float64).ravel(), higher


def _pipelines(
    cascade: Any, cells: list[np.ndarray], paradigm: str, edge: Any, device: Any, link: Any
) -> list[Pipeline]:
    _validate.choice("paradigm", paradigm, tuple(PARADIGMS))
    if isinstance(cascade, Cascade):
        if edge is None or device is None or link is None:
            raise ValueError("edge, device, link: must be given with a Cascade")
        prior, decode = cells
        return [PARADIGMS[paradigm](cascade, prior, decode, edge, device, link)]
    if not callable(cascade):
        raise ValueError(f"cascade = {cascade!r}: must be a Cascade, or a callable that gives a Pipeline for steps")
    found = []
    for pair in zip(*cells, strict=True):
        answer = cascade(*(int(steps) for steps in pair))
        if isinstance(answer, Mapping) and paradigm in answer:
            answer = answer[paradigm]
        _validate.check_kind(f"cascade({', '.join(map(str, pair))})", answer, Pipeline)
        found.append(answer)
    return found

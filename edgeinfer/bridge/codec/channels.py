"""Which channels of a feature map matter: importance by energy, by attention, by what they say about the label."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeinfer import _validate

IMPORTANCES = ("energy", "attention", "mutual_information")
_BINS = 8


def importance(
    features: ArrayLike, method: str, *, labels: ArrayLike | None = None, gates: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Importance of each channel, >= 0 with sum 1, so that methods stand on one axis.

    Parameters
    ----------
    features : (n, channels, height, width) array_like
        Of training data.
    method : {"energy", "attention", "mutual_information"}
        Mean square of the activations; mean gate of a squeeze-and-excitation block, as the network learnt it; or mutual
        information of the label and the channel's mean over the image, in 8 bins of equal counts, less the bias of
        Miller and Madow.
    labels : (n,) array_like of int, optional
        For mutual information.
    gates : (n, channels) array_like, optional
        For attention.

    Returns
    -------
    (channels,) ndarray

    Examples
    --------
    >>> x = np.zeros((4, 2, 1, 1))
    >>> x[:, 1, 0, 0] = [3, 3, 4, 4]
    >>> importance(x, "energy"), importance(x, "mutual_information", labels=[0, 0, 1, 1])
    (array([0., 1.]), array([0., 1.]))
    """
    x = np.asarray(_validate.real("features", features))
    if x.ndim != 4 or 0 in x.shape:
        raise ValueError(f"features of shape {x.shape}: must be (n, channels, height, width), not empty")
    _validate.choice("method", method, IMPORTANCES)
    if method == "energy":
        values = (x**2).mean((0, 2, 3))
    elif method == "attention":
        given = np.asarray(_validate.real("gates", _given("gates", gates, method), 0))
        if given.shape != x.shape[:2]:
            raise ValueError(f"gates of shape {given.shape}: must be {x.shape[:2]}")
        values = given.mean(0)
    else:
        y = _validate.plain("labels", _given("labels", labels, method))
        if y.shape != x.shape[:1]:
            raise ValueError(f"labels of shape {y.shape}: must be {x.shape[:1]}")
        values = np.array([_information(channel, y) for channel in x.mean((2, 3)).T])
    total = values.sum()
    return values / total if total > 0 else np.full(len(values), 1 / len(values))


def _given(name: str, value: Any, method: str) -> Any:
    if value is None:
        raise ValueError(f"{name} = None: must be given for {method!r}")
    return value


def _information(values: NDArray[np.float64], labels: NDArray[Any]) -> float:
    """Plug-in mutual information of binned values and labels, nat, corrected for its bias, at least 0."""
    edges = np.unique(np.quantile(values, np.arange(1, _BINS) / _BINS))
    bins = np.searchsorted(edges, values, side="right")
    counts = np.zeros((len(edges) + 1, len(classes := np.unique(labels))))
    np.add.at(counts, (bins, np.searchsorted(classes, labels)), 1)
    joint = counts / counts.sum()
    rows, columns = joint.sum(1, keepdims=True), joint.sum(0, keepdims=True)
    filled = joint > 0
    plain = (joint[filled] * np.log((joint / np.where(filled, rows * columns, 1))[filled])).sum()
    bias = (filled.sum() - (rows > 0).sum() - (columns > 0).sum() + 1) / (2 * counts.sum())
    return max(float(plain - bias), 0.0)

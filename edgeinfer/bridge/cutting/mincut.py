"""Minimum cut of a network of capacities, exact to the precision of float64."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeinfer import _validate
from edgeinfer._extras import need

# Capacities are rounded to this share of the largest finite cut; SciPy's flows are 32-bit integers.
_RESOLUTION = 2**50
_FLOW = 2**29


def minimum_cut(tail: ArrayLike, head: ArrayLike, capacity: ArrayLike, size: int) -> NDArray[np.bool_]:
    """The source's side of a minimum cut between vertex 0 and vertex 1, the smallest one.

    SciPy's maximum flow takes 32-bit capacities. A flow on capacities rounded down to multiples of 2^k is a flow, and
    what it leaves in the residual network is less than 2^k for each edge; so rounds with falling k, each on what the
    rounds before left, end at the maximum flow of 50-bit capacities.

    Parameters
    ----------
    tail, head : (m,) array_like of int
        Ends of the edges, in [0, size).
    capacity : (m,) array_like
        >= 0; inf for an edge that no cut may contain. Some cut must be finite.
    size : int
        Number of vertices, >= 2.

    Returns
    -------
    (size,) ndarray of bool

    Raises
    ------
    ValueError
        For a capacity out of range, or where every cut is infinite.

    Examples
    --------
    >>> minimum_cut([0, 2, 0, 3], [2, 1, 3, 1], [3.0, 0.5, 0.1, 2.0], 4)
    array([ True, False,  True, False])
    """
    sparse, graphs = need("scipy.sparse", "bridge"), need("scipy.sparse.csgraph", "bridge")
    tail, head = (np.asarray(_validate.plain(n, v), np.int64) for n, v in (("tail", tail), ("head", head)))
    capacity = np.asarray(_validate.real("capacity", capacity, 0, infinite=True))
    finite = np.isfinite(capacity)
    total = capacity[finite].sum()
    if not np.isfinite(total):
        raise ValueError(f"capacity: sum = {total}: must be finite")
    units = np.full(capacity.shape, 2 * _RESOLUTION, np.int64)
    # A subnormal total would overflow the quotient.
    units[finite] = np.rint(capacity[finite] / max(total, 1e-300) * _RESOLUTION).astype(np.int64)
    residual = sparse.csr_array((units, (tail, head)), shape=(size, size))
    residual.sum_duplicates()
    bound = _RESOLUTION + tail.size
    while True:
        shift = max(0, int(bound).bit_length() - _FLOW.bit_length() + 1)
        rounded = residual.copy()
        rounded.data = (np.minimum(residual.data, bound) >> shift).astype(np.int32)
        rounded.eliminate_zeros()
        result = graphs.maximum_flow(rounded, 0, 1)
        flow = result.flow.astype(np.int64)
        flow.data <<= shift
        residual = (residual - flow).tocsr()
        residual.eliminate_zeros()
        if not shift:
            break
        bound = residual.nnz << shift
    reached = np.zeros(size, bool)
    reached[graphs.breadth_first_order(residual, 0, return_predecessors=False)] = True
    crossing = reached[tail] & ~reached[head]
    if reached[1] or not finite[crossing].all():
        raise ValueError("capacity = inf: on every cut")
    return reached

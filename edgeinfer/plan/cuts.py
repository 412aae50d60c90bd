"""Where to cut a network when its deadline counts: the bridge's cuts judged by the core's bracket."""

from typing import TYPE_CHECKING, Any

from edgeinfer.delay import violation_bracket

if TYPE_CHECKING:
    from edgeinfer.bridge import Cut


def best_cut(model: Any, *, objective: str = "violation", **arguments: Any) -> "Cut":
    """`bridge.cut` with the core's bracket, so that every objective can be had; arguments and answer are its.

    The bridge knows the model alone, so the analysis is handed to it from here.

    Parameters
    ----------
    model, objective
        As for `bridge.cut`.
    **arguments
        Those of `bridge.cut`, but for `bracket`.

    Returns
    -------
    Cut
        For "violation", `value` is the certified upper bound on P(sojourn time > deadline).

    Examples
    --------
    >>> from edgeinfer import Node, RayleighLink
    >>> from edgeinfer.bridge import Graph, Operation, Tensor
    >>> tensors = {name: Tensor(name, "uint8", (bits // 8,), bits) for name, bits in (("x", 80000), ("h", 8000), ("y", 8))}
    >>> first = Operation(0, "reduce", "Conv", ("x",), ("h",), 10**7, 0)
    >>> second = Operation(1, "classify", "Gemm", ("h",), ("y",), 10**9, 0)
    >>> graph = Graph("two", "", (first, second), tensors, ("x",), ("y",))
    >>> link = RayleighLink(1e6, 31, -100, 128.1, 1e-3)
    >>> nodes = {"device": Node("device", 1e9), "edge": Node("edge", 1e11)}
    >>> best_cut(graph, **nodes, link=link, deadline=0.1, arrival_rate=2.0).crossing
    (('h',),)
    """
    from edgeinfer.bridge import cut

    return cut(model, objective=objective, bracket=violation_bracket, **arguments)

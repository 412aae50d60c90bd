"""One entry for measuring on this machine, whatever is given."""

from typing import Any, overload

from edgeinfer.bridge.cascade import profiles
from edgeinfer.bridge.cascade.runtime import GenerativeCascade
from edgeinfer.network.profiles import NetworkProfile, profile_network


@overload
def profile(model: GenerativeCascade, *arguments: Any, **options: Any) -> profiles.Profile: ...
@overload
def profile(model: Any, *arguments: Any, **options: Any) -> NetworkProfile: ...
def profile(model: Any, *arguments: Any, **options: Any) -> Any:
    """Measure a cascade's stages, or a network's operations, on this machine.

    Parameters
    ----------
    model : GenerativeCascade, path or onnx.ModelProto
        For a cascade the arguments and the answer are those of `profiles.profile`; what follows is for a network.
    shapes : mapping of str to tuple of int, optional
        Of the inputs, or of a size that the file names; those that the file leaves free must be given.
    feeds : mapping of str to ndarray, optional
        Data of inputs; made up where left out.
    repetitions : int
        Runs that count, >= 2.
    warmup : int
        Runs before them, >= 0.
    level : "disabled", "basic", "extended" or "all"
        ONNX Runtime's graph optimisation of what is timed; see `NetworkProfile` on fused operations.
    threads : int
        Of one run, >= 1.
    seed : int
        Of the inputs.
    progress : callable, optional
        progress(done, total) after each run, warm-up included.

    Returns
    -------
    Profile or NetworkProfile

    Raises
    ------
    ValueError
        As `read_graph`, or where ONNX Runtime cannot run the network.

    Examples
    --------
    >>> from onnx import TensorProto, helper
    >>> x, w, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [64, 64]) for name in "xwy")
    >>> nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["y"])]
    >>> model = helper.make_model(helper.make_graph(nodes, "g", [x, w], [y]), ir_version=8)
    >>> measured = profile(model, repetitions=5)
    >>> measured.times.shape, bool(abs(measured.times.sum() - measured.totals.mean()) < 1e-12)
    ((2,), True)
    """
    if isinstance(model, GenerativeCascade):
        return profiles.profile(model, *arguments, **options)
    return profile_network(model, *arguments, **options)

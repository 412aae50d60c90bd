"""Where ONNX Runtime runs a network: its options, its sessions, and what may go wrong in them."""

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from edgeinfer import _validate
from edgeinfer._extras import need
from edgeinfer.network.loading import serialised

#: Called after each step with the steps done and their total.
Progress = Callable[[int, int], None]
#: Called after each network pass with the part's name, start and end on `time.perf_counter`, s.
Observe = Callable[[str, float, float], None]

#: Levels of ONNX Runtime's graph optimisation.
LEVELS = MappingProxyType(
    {
        "disabled": "ORT_DISABLE_ALL",
        "basic": "ORT_ENABLE_BASIC",
        "extended": "ORT_ENABLE_EXTENDED",
        "all": "ORT_ENABLE_ALL",
    }
)


def session_options(level: str = "all", threads: int | None = 1, *, extra: str = "bridge") -> Any:
    """ONNX Runtime's options for one network.

    Parameters
    ----------
    level : key of `LEVELS`
        Of graph optimisation.
    threads : int, optional
        That one pass uses, >= 1; ONNX Runtime's choice where None.
    extra : str
        The extra to be named where onnxruntime is missing.

    Returns
    -------
    onnxruntime.SessionOptions
        Of one pass at a time, silent.
    """
    runtime = need("onnxruntime", extra)
    runtime.disable_telemetry_events()
    options = runtime.SessionOptions()
    _validate.choice("level", level, tuple(LEVELS))
    options.graph_optimization_level = getattr(runtime.GraphOptimizationLevel, LEVELS[level])
    options.inter_op_num_threads = 1
    options.intra_op_num_threads = 0 if threads is None else _validate.threads(threads)
    options.log_severity_level = 4
    return options


def open_session(model: Any, label: str, options: Any) -> Any:
    """A session of ONNX Runtime on the processor.

    Parameters
    ----------
    model : path, bytes or onnx.ModelProto
        An ONNX file, what it holds, or the model, of any size.
    label : str
        The name of the network, for the error.
    options : onnxruntime.SessionOptions
        What `session_options` makes.

    Returns
    -------
    onnxruntime.InferenceSession

    Raises
    ------
    ValueError
        Naming `label`, where ONNX Runtime does not take the model.
    """
    runtime = need("onnxruntime", "bridge")
    kept = None
    if not isinstance(model, str | bytes | Path):
        model, weights = serialised(model)
        if weights:
            kept = {name: runtime.OrtValue.ortvalue_from_numpy(array) for name, array in weights.items()}
            options.add_external_initializers(list(kept), list(kept.values()))
    try:
        session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"], enable_fallback=0)
    except Exception as error:  # each failure of ONNX Runtime has a type of its own
        raise ValueError(f"{label}: ONNX Runtime cannot load it: {error}") from error
    # The session reads these weights where they are.
    session.weights = kept
    return session


def run_session(
    session: Any,
    feeds: Mapping[str, Any],
    label: str,
    outputs: Any = None,
    *,
    seconds: float | None = None,
    wrapped: bool = False,
) -> Any:
    """Outputs of one pass.

    Parameters
    ----------
    session : onnxruntime.InferenceSession
    feeds : mapping of str to ndarray
    label : str
        The name of the network, for the error.
    outputs : list of str, optional
        All by default.
    seconds : float, optional
        Longest it may take; it ends between two operations.
    wrapped : bool
        Whether feeds and outputs are onnxruntime.OrtValue, which holds types that NumPy has not.

    Raises
    ------
    ValueError
        Naming `label`, where it fails.
    TimeoutError
        After `seconds`.
    """
    run = session.run_with_ort_values if wrapped else session.run
    if seconds is None:
        try:
            return run(outputs, dict(feeds))
        except Exception as error:  # each failure of ONNX Runtime has a type of its own
            raise ValueError(f"{label}: ONNX Runtime cannot run it: {error}") from error
    options = need("onnxruntime", "bridge").RunOptions()
    # Besides raising, a run that is stopped logs an error.
    options.log_severity_level = 4
    timer = threading.Timer(max(seconds, 0.0), setattr, (options, "terminate", True))
    timer.start()
    try:
        return run(outputs, dict(feeds), options)
    except Exception as error:  # each failure of ONNX Runtime has a type of its own
        if options.terminate:
            raise TimeoutError(f"{label}: not computed within {max(seconds, 0.0):.3g} s") from None
        raise ValueError(f"{label}: ONNX Runtime cannot run it: {error}") from error
    finally:
        timer.cancel()

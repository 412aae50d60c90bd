"""Delay guarantees for device-edge collaborative inference.

A pipeline is a tuple of stages; latency, bounds, brackets, simulation and searches are functions of it.

Examples
--------
>>> import edgeinfer
>>> pipeline = edgeinfer.paper.scenario().pipelines()["split"]
>>> bracket = edgeinfer.violation_bracket(pipeline, arrival_rate=0.35, deadline=6.0)
>>> bool(0 < bracket.lower <= bracket.upper < 0.01)
True
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from edgeinfer import _built  # noqa: F401  before anything that needs the core
from edgeinfer._extras import is_there
from edgeinfer._version import __version__
from edgeinfer.delay import *  # noqa: F403
from edgeinfer.delay import __all__ as _delay
from edgeinfer.model import *  # noqa: F403
from edgeinfer.model import __all__ as _model

#: Names of rooms that load when they are first named.
_LATER = {
    "allocate_steps": "plan",
    "Band": "cell",
    "Batching": "cell",
    "Cell": "cell",
    "EdgeNode": "cell",
    "Terminals": "cell",
    "cell_bracket": "cell",
    "max_terminals": "cell",
    "min_servers": "cell",
    "simulate_cell": "cell",
}
_ROOMS = ("model", "estimates", "delay", "cell", "network", "quality", "scenes", "bridge", "plan", "study", "paper")
#: They speak gRPC: where that is missing, a star import and `help`, which take all names, go on without them.
_SPEAKING = ("strategies",)
__all__ = [*_model, *_delay, *_ROOMS, *(_SPEAKING if is_there("grpc") else ()), *_LATER, "__version__"]


if TYPE_CHECKING:
    # The same names, for type checkers and editors, to which all that `__getattr__` gives is anything.
    from edgeinfer import bridge as bridge
    from edgeinfer import cell as cell
    from edgeinfer import estimates as estimates
    from edgeinfer import network as network
    from edgeinfer import paper as paper
    from edgeinfer import plan as plan
    from edgeinfer import quality as quality
    from edgeinfer import scenes as scenes
    from edgeinfer import strategies as strategies
    from edgeinfer import study as study
    from edgeinfer.cell import Band as Band
    from edgeinfer.cell import Batching as Batching
    from edgeinfer.cell import Cell as Cell
    from edgeinfer.cell import EdgeNode as EdgeNode
    from edgeinfer.cell import Terminals as Terminals
    from edgeinfer.cell import cell_bracket as cell_bracket
    from edgeinfer.cell import max_terminals as max_terminals
    from edgeinfer.cell import min_servers as min_servers
    from edgeinfer.cell import simulate_cell as simulate_cell
    from edgeinfer.plan import allocate_steps as allocate_steps
else:

    def __getattr__(name: str) -> Any:
        # Rooms beyond the core load when they are first named, so that importing edgeinfer needs NumPy alone.
        if name in (*_ROOMS, *_SPEAKING):
            return import_module(f"edgeinfer.{name}")
        if name in _LATER:
            return getattr(import_module(f"edgeinfer.{_LATER[name]}"), name)
        raise AttributeError(f"module 'edgeinfer' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__

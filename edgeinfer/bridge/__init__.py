"""The real thing: generative cascades of ONNX networks, run in one process or split between an edge and a device."""

from importlib import import_module
from typing import Any

from edgeinfer.bridge.airtime import Airtime
from edgeinfer.bridge.flops import count_flops
from edgeinfer.bridge.manifest import (
    Flops,
    Image,
    Manifest,
    Network,
    Part,
    Port,
    Stage,
    Text,
    Wire,
    read_manifest,
    read_part,
)
from edgeinfer.bridge.profiles import Profile, profile
from edgeinfer.bridge.runtime import GenerativeCascade, load, pack, shipped, unpack
from edgeinfer.bridge.schedulers import Scheduler, Step, advance

# What speaks gRPC or draws loads when it is first named.
_LAZY = {
    "Connection": "device",
    "Device": "device",
    "EdgeError": "device",
    "Generation": "device",
    "Order": "device",
    "Edge": "edge",
    "LoadTest": "loadtest",
    "Testbed": "loadtest",
    "load_test": "loadtest",
    "Shaper": "shaper",
    "Trace": "trace",
    "control_bytes": "trace",
    "draw_trace": "trace",
    "read_trace": "trace",
}
__all__ = [
    "Airtime",
    "Connection",
    "Device",
    "Edge",
    "EdgeError",
    "Flops",
    "Generation",
    "GenerativeCascade",
    "Image",
    "LoadTest",
    "Manifest",
    "Network",
    "Order",
    "Part",
    "Port",
    "Profile",
    "Scheduler",
    "Shaper",
    "Stage",
    "Step",
    "Testbed",
    "Text",
    "Trace",
    "Wire",
    "advance",
    "control_bytes",
    "count_flops",
    "draw_trace",
    "load",
    "load_test",
    "pack",
    "profile",
    "read_manifest",
    "read_part",
    "read_trace",
    "shipped",
    "unpack",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"edgeinfer.bridge.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'edgeinfer.bridge' has no attribute {name!r}")

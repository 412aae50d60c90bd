"""The real thing: generative cascades of ONNX networks, run in one process or split between an edge and a device."""

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

__all__ = [
    "Flops",
    "GenerativeCascade",
    "Image",
    "Manifest",
    "Network",
    "Part",
    "Port",
    "Profile",
    "Scheduler",
    "Stage",
    "Step",
    "Text",
    "Wire",
    "advance",
    "count_flops",
    "load",
    "pack",
    "profile",
    "read_manifest",
    "read_part",
    "shipped",
    "unpack",
]

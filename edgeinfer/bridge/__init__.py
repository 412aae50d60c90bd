"""The real thing: ONNX networks, and cascades of them, cut, run in one process or split between a device and an edge."""

from edgeinfer.bridge.cuts import Cut, candidates, chain_cuts, cut
from edgeinfer.bridge.flops import count_flops
from edgeinfer.bridge.graphs import Graph, Operation, Tensor, read_graph
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
from edgeinfer.bridge.network_profiles import NetworkProfile
from edgeinfer.bridge.parts import Parts, write_parts
from edgeinfer.bridge.profiles import Profile
from edgeinfer.bridge.profiling import profile
from edgeinfer.bridge.runtime import GenerativeCascade, load, pack, shipped, unpack
from edgeinfer.bridge.schedulers import Scheduler, Step, advance

__all__ = [
    "Cut",
    "Flops",
    "GenerativeCascade",
    "Graph",
    "Image",
    "Manifest",
    "Network",
    "NetworkProfile",
    "Operation",
    "Part",
    "Parts",
    "Port",
    "Profile",
    "Scheduler",
    "Stage",
    "Step",
    "Tensor",
    "Text",
    "Wire",
    "advance",
    "candidates",
    "chain_cuts",
    "count_flops",
    "cut",
    "load",
    "pack",
    "profile",
    "read_graph",
    "read_manifest",
    "read_part",
    "shipped",
    "unpack",
    "write_parts",
]

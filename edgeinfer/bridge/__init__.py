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
from edgeinfer.bridge.tile_workers import TileWorkers
from edgeinfer.bridge.tiles import Tile, Tiling, best_tiling, channel_tiles, spatial_tiles, tileable_runs

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
    "Tile",
    "TileWorkers",
    "Tiling",
    "Wire",
    "advance",
    "best_tiling",
    "candidates",
    "chain_cuts",
    "channel_tiles",
    "count_flops",
    "cut",
    "load",
    "pack",
    "profile",
    "read_graph",
    "read_manifest",
    "read_part",
    "shipped",
    "spatial_tiles",
    "tileable_runs",
    "unpack",
    "write_parts",
]

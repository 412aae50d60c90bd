"""The real thing: ONNX networks cascaded, cut, compressed at the cut and left early, run here or split."""

from importlib import import_module
from typing import Any

from edgeinfer.bridge.airtime import Airtime
from edgeinfer.bridge.channels import IMPORTANCES, importance
from edgeinfer.bridge.compression import (
    PCA,
    Autoencoder,
    Channels,
    Codec,
    RatePoint,
    fewest_bits,
    fit_codec,
    fit_pca,
    offload,
    rate_accuracy,
    read_autoencoder,
    select_channels,
    standard_codecs,
)
from edgeinfer.bridge.cut_sessions import CutSessions, Division, divide
from edgeinfer.bridge.cuts import BestCuts, Cut, best_cuts, candidates, chain_cuts, cut
from edgeinfer.bridge.exits import (
    DeadlinePolicy,
    Evaluation,
    ExitManifest,
    ExitNetwork,
    ExitRule,
    Served,
    calibrate,
    deadline_policy,
    load_exits,
    poisson,
    read_exits,
    replay,
    serve,
)
from edgeinfer.bridge.link_rate import AdaptiveCut, LinkRate
from edgeinfer.bridge.manifest import Flops, Image, Manifest, Network, Stage, Text, Wire, read_manifest
from edgeinfer.bridge.parts import Parts, write_parts
from edgeinfer.bridge.profiles import Profile
from edgeinfer.bridge.profiling import profile
from edgeinfer.bridge.quantisers import Quantiser, lloyd_max, uniform
from edgeinfer.bridge.runtime import GenerativeCascade, load, pack, unpack
from edgeinfer.bridge.schedulers import Scheduler, Step, advance
from edgeinfer.bridge.tile_workers import TileWorkers
from edgeinfer.bridge.tiles import Tile, Tiling, best_tiling, channel_tiles, spatial_tiles, tileable_runs
from edgeinfer.estimates import Estimate as Interval
from edgeinfer.network.files import Part, Port, read_part
from edgeinfer.network.graphs import Graph, Operation, Tensor, count_flops, read_graph
from edgeinfer.network.profiles import NetworkProfile
from edgeinfer.network.zoo import LIGHT_NETWORKS, light_model, light_path, shipped

# What speaks gRPC or draws loads when it is first named.
_LAZY = {
    "Connection": "device",
    "CutDevice": "cut_device",
    "CutEdge": "cut_edge",
    "CutRun": "cut_measurement",
    "Device": "device",
    "EdgeError": "device",
    "Generation": "device",
    "Order": "device",
    "Edge": "edge",
    "Inference": "cut_device",
    "LoadTest": "loadtest",
    "Testbed": "loadtest",
    "load_test": "loadtest",
    "measure_cut": "cut_measurement",
    "message_pipeline": "cut_measurement",
    "profile_cut": "cut_measurement",
    "Shaper": "shaper",
    "Trace": "trace",
    "control_bytes": "trace",
    "draw_trace": "trace",
    "read_trace": "trace",
}
__all__ = [
    "IMPORTANCES",
    "LIGHT_NETWORKS",
    "PCA",
    "AdaptiveCut",
    "Airtime",
    "Autoencoder",
    "BestCuts",
    "Channels",
    "Codec",
    "Connection",
    "Cut",
    "CutDevice",
    "CutEdge",
    "CutRun",
    "CutSessions",
    "DeadlinePolicy",
    "Device",
    "Division",
    "Edge",
    "EdgeError",
    "Evaluation",
    "ExitManifest",
    "ExitNetwork",
    "ExitRule",
    "Flops",
    "Generation",
    "GenerativeCascade",
    "Graph",
    "Image",
    "Inference",
    "Interval",
    "LinkRate",
    "LoadTest",
    "Manifest",
    "Network",
    "NetworkProfile",
    "Operation",
    "Order",
    "Part",
    "Parts",
    "Port",
    "Profile",
    "Quantiser",
    "RatePoint",
    "Scheduler",
    "Served",
    "Shaper",
    "Stage",
    "Step",
    "Tensor",
    "Testbed",
    "Text",
    "Tile",
    "TileWorkers",
    "Tiling",
    "Trace",
    "Wire",
    "advance",
    "best_cuts",
    "best_tiling",
    "calibrate",
    "candidates",
    "chain_cuts",
    "channel_tiles",
    "control_bytes",
    "count_flops",
    "cut",
    "deadline_policy",
    "divide",
    "draw_trace",
    "fewest_bits",
    "fit_codec",
    "fit_pca",
    "importance",
    "light_model",
    "light_path",
    "lloyd_max",
    "load",
    "load_exits",
    "load_test",
    "measure_cut",
    "message_pipeline",
    "offload",
    "pack",
    "poisson",
    "profile",
    "profile_cut",
    "rate_accuracy",
    "read_autoencoder",
    "read_exits",
    "read_graph",
    "read_manifest",
    "read_part",
    "read_trace",
    "replay",
    "select_channels",
    "serve",
    "shipped",
    "spatial_tiles",
    "standard_codecs",
    "tileable_runs",
    "uniform",
    "unpack",
    "write_parts",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"edgeinfer.bridge.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'edgeinfer.bridge' has no attribute {name!r}")

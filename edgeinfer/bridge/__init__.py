"""The real thing: ONNX networks cascaded, cut, compressed at the cut and left early, run here or split."""

import warnings
from importlib import import_module
from typing import Any

from edgeinfer._extras import is_there
from edgeinfer.bridge.cascade.folder import read_manifest
from edgeinfer.bridge.cascade.manifest import CascadeNetwork, CascadeStage, Flops, Image, Manifest, Text, Wire
from edgeinfer.bridge.cascade.packing import pack, unpack
from edgeinfer.bridge.cascade.profiles import Profile
from edgeinfer.bridge.cascade.runtime import GenerativeCascade, load
from edgeinfer.bridge.cascade.schedulers import DenoisingStep, Scheduler, advance
from edgeinfer.bridge.codec.channels import IMPORTANCES, importance
from edgeinfer.bridge.codec.codecs import Codec, fit_codec
from edgeinfer.bridge.codec.quantisers import Quantiser, lloyd_max, uniform
from edgeinfer.bridge.codec.steps import PCA, Autoencoder, Channels, fit_pca, read_autoencoder, select_channels
from edgeinfer.bridge.cutting.cuts import Cut, Division, divide
from edgeinfer.bridge.cutting.parts import Parts, write_parts
from edgeinfer.bridge.cutting.rate import AdaptiveCut, LinkRate
from edgeinfer.bridge.cutting.search import BestCuts, best_cuts, candidates, chain_cuts, cut
from edgeinfer.bridge.cutting.sessions import CutSessions
from edgeinfer.bridge.cutting.wires import WireEffect, choose_wire
from edgeinfer.bridge.exit.manifest import ExitManifest, read_exits
from edgeinfer.bridge.exit.network import ExitNetwork, load_exits
from edgeinfer.bridge.exit.queue import DeadlinePolicy, Served, deadline_policy, poisson, replay, serve_exits
from edgeinfer.bridge.exit.rates import RatePoint, fewest_bits, offload, rate_accuracy, standard_codecs
from edgeinfer.bridge.exit.rules import Evaluation, ExitRule, calibrate
from edgeinfer.bridge.link.airtime import Airtime
from edgeinfer.bridge.run.profile import profile
from edgeinfer.bridge.tile.tiles import Tile, Tiling, best_tiling, channel_tiles, spatial_tiles, tileable_runs
from edgeinfer.bridge.tile.workers import TileWorkers
from edgeinfer.estimates import Estimate as Interval
from edgeinfer.network.files import Part, Port, read_part
from edgeinfer.network.graphs import Graph, Operation, Tensor, count_flops, read_graph
from edgeinfer.network.profiles import NetworkProfile
from edgeinfer.network.zoo import LIGHT_NETWORKS, light_model, light_path, shipped

# What speaks gRPC or draws loads when it is first named.
_LAZY = {
    "Connection": "device.connection",
    "CutDevice": "work.network",
    "CutEdge": "work.network",
    "CutRun": "run.cut",
    "Device": "work.cascade",
    "EdgeError": "device.connection",
    "Generation": "work.orders",
    "Order": "work.orders",
    "Edge": "work.cascade",
    "Inference": "work.halves",
    "LoadTest": "run.load",
    "Testbed": "run.testbed",
    "load_test": "run.load",
    "load_tests": "run.load",
    "measure_cut": "run.cut",
    "message_pipeline": "run.cut",
    "profile_cut": "run.cut",
    "Run": "run.runs",
    "Shaper": "link.shaper",
    "Trace": "wire.trace",
    "WorkLoad": "run.load",
    "control_bytes": "wire.trace",
    "draw_trace": "wire.trace",
    "read_trace": "wire.trace",
}
# Names before 0.2, whose meaning in the analysis is another.
_RENAMED = {"Network": "CascadeNetwork", "Stage": "CascadeStage", "Step": "DenoisingStep", "serve": "serve_exits"}
__all__ = [
    "IMPORTANCES",
    "LIGHT_NETWORKS",
    "PCA",
    "AdaptiveCut",
    "Airtime",
    "Autoencoder",
    "BestCuts",
    "CascadeNetwork",
    "CascadeStage",
    "Channels",
    "Codec",
    "Connection",
    "Cut",
    "CutDevice",
    "CutEdge",
    "CutRun",
    "CutSessions",
    "DeadlinePolicy",
    "DenoisingStep",
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
    "NetworkProfile",
    "Operation",
    "Order",
    "Part",
    "Parts",
    "Port",
    "Profile",
    "Quantiser",
    "RatePoint",
    "Run",
    "Scheduler",
    "Served",
    "Shaper",
    "Tensor",
    "Testbed",
    "Text",
    "Tile",
    "TileWorkers",
    "Tiling",
    "Trace",
    "Wire",
    "WireEffect",
    "WorkLoad",
    "advance",
    "best_cuts",
    "best_tiling",
    "calibrate",
    "candidates",
    "chain_cuts",
    "channel_tiles",
    "choose_wire",
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
    "load_tests",
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
    "serve_exits",
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
    if name in _RENAMED:
        successor = _RENAMED[name]
        warnings.warn(f"edgeinfer.bridge.{name}: is now {successor}", DeprecationWarning, stacklevel=2)
        return globals()[successor]
    raise AttributeError(f"module 'edgeinfer.bridge' has no attribute {name!r}")


def __dir__() -> list[str]:
    # Without gRPC most of the others are not to be had, and `help` asks for all that is named here.
    return __all__ if is_there("grpc") else list(globals())

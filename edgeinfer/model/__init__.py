"""What the system is: links, nodes, cascades, pipelines and paradigms."""

from edgeinfer.model.cascades import Cascade
from edgeinfer.model.fading import BestOf, MaximalRatio, Nakagami, Rayleigh, Rician
from edgeinfer.model.links import FadingLink, RayleighLink, TransferTime
from edgeinfer.model.nodes import Node
from edgeinfer.model.pipelines import (
    Compute,
    Constant,
    Exponential,
    Measured,
    Pipeline,
    Transfer,
    device_only,
    edge_only,
    split,
)

__all__ = [
    "BestOf",
    "Cascade",
    "Compute",
    "Constant",
    "Exponential",
    "FadingLink",
    "MaximalRatio",
    "Measured",
    "Nakagami",
    "Node",
    "Pipeline",
    "Rayleigh",
    "RayleighLink",
    "Rician",
    "Transfer",
    "TransferTime",
    "device_only",
    "edge_only",
    "split",
]

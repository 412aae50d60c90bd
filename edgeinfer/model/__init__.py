"""What the system is: arrivals, links, nodes, cascades, pipelines and paradigms."""

from edgeinfer.model import path_loss
from edgeinfer.model.arrivals import (
    ArrivalProcess,
    Erlang,
    Gamma,
    Hyperexponential,
    Periodic,
    Poisson,
)
from edgeinfer.model.blocklength import finite_blocklength_rate
from edgeinfer.model.cascades import Cascade
from edgeinfer.model.channels import ConstantLink, MarkovLink
from edgeinfer.model.composition import Delay, Fork, Review, Session
from edgeinfer.model.dependent_arrivals import Batch, MarkovModulated, Recorded
from edgeinfer.model.fading import BestOf, MaximalRatio, Nakagami, Rayleigh, Rician
from edgeinfer.model.links import FadingLink, RayleighLink, TransferTime
from edgeinfer.model.measured import Measured
from edgeinfer.model.mixtures import TransferMixture
from edgeinfer.model.nodes import Node
from edgeinfer.model.outages import OutageLink, RepetitionTime
from edgeinfer.model.paradigms import device_only, edge_only, split
from edgeinfer.model.path_loss import Population
from edgeinfer.model.pipelines import (
    Compute,
    Constant,
    Exponential,
    Pipeline,
    Transfer,
)
from edgeinfer.model.slotted import ChannelLink
from edgeinfer.model.traces import TraceLink

__all__ = [
    "ArrivalProcess",
    "Batch",
    "BestOf",
    "Cascade",
    "ChannelLink",
    "Compute",
    "Constant",
    "ConstantLink",
    "Delay",
    "Erlang",
    "Exponential",
    "FadingLink",
    "Fork",
    "Gamma",
    "Hyperexponential",
    "MarkovLink",
    "MarkovModulated",
    "MaximalRatio",
    "Measured",
    "Nakagami",
    "Node",
    "OutageLink",
    "Periodic",
    "Pipeline",
    "Poisson",
    "Population",
    "Rayleigh",
    "RayleighLink",
    "Recorded",
    "RepetitionTime",
    "Review",
    "Rician",
    "Session",
    "TraceLink",
    "Transfer",
    "TransferMixture",
    "TransferTime",
    "device_only",
    "edge_only",
    "finite_blocklength_rate",
    "path_loss",
    "split",
]

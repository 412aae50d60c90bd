"""Several generative models on one request: device and edge share one subject, or take parts of their own."""

from edgeinfer.strategies.bodies import Finding, Findings, Latent, Picture, Plan, Request, Seed, Verdict
from edgeinfer.strategies.messages import Message
from edgeinfer.strategies.readers import Checker, Reader, RuleReader, Sight
from edgeinfer.strategies.result import Collaboration, Proposal, Said, Worked
from edgeinfer.strategies.run import collaborate, collaborative, device_side, edge_side
from edgeinfer.strategies.session import AgentError, LimitReached, Session
from edgeinfer.strategies.tables import Place, Table
from edgeinfer.strategies.team import Painter, Team, standard_team
from edgeinfer.strategies.work import StrategyService, Work, work_load

__all__ = [
    "AgentError",
    "Checker",
    "Collaboration",
    "Finding",
    "Findings",
    "Latent",
    "LimitReached",
    "Message",
    "Painter",
    "Picture",
    "Place",
    "Plan",
    "Proposal",
    "Reader",
    "Request",
    "RuleReader",
    "Said",
    "Seed",
    "Session",
    "Sight",
    "StrategyService",
    "Table",
    "Team",
    "Verdict",
    "Work",
    "Worked",
    "collaborate",
    "collaborative",
    "device_side",
    "edge_side",
    "standard_team",
    "work_load",
]

"""Several generative models on one request: device and edge share one subject, or take parts of their own."""

from edgeinfer.strategies.agents import Attempt, Embedder, HeadReader, Reading
from edgeinfer.strategies.bodies import Finding, Findings, Latent, Picture, Plan, Request, Seed, Verdict
from edgeinfer.strategies.messages import Message
from edgeinfer.strategies.planner import Planner, Storyline
from edgeinfer.strategies.readers import Checker, Reader, RuleReader, Sight
from edgeinfer.strategies.result import Collaboration, Proposal, Said, Worked
from edgeinfer.strategies.rules import Rules, Spreads
from edgeinfer.strategies.run import (
    collaborate,
    collaborative,
    competitive,
    cooperative,
    device_side,
    edge_side,
    ensemble,
    race,
    review,
)
from edgeinfer.strategies.session import AgentError, LimitReached, Session
from edgeinfer.strategies.storyboarding import storyboard
from edgeinfer.strategies.tables import Place, Table
from edgeinfer.strategies.team import Painter, Team, standard_team
from edgeinfer.strategies.work import StrategyService, Work, work_load

__all__ = [
    "AgentError",
    "Attempt",
    "Checker",
    "Collaboration",
    "Embedder",
    "Finding",
    "Findings",
    "HeadReader",
    "Latent",
    "LimitReached",
    "Message",
    "Painter",
    "Picture",
    "Place",
    "Plan",
    "Planner",
    "Proposal",
    "Reader",
    "Reading",
    "Request",
    "RuleReader",
    "Rules",
    "Said",
    "Seed",
    "Session",
    "Sight",
    "Spreads",
    "Storyline",
    "StrategyService",
    "Table",
    "Team",
    "Verdict",
    "Work",
    "Worked",
    "collaborate",
    "collaborative",
    "competitive",
    "cooperative",
    "device_side",
    "edge_side",
    "ensemble",
    "race",
    "review",
    "standard_team",
    "storyboard",
    "work_load",
]

"""Decisions: which paradigm, where in the parameter space each one wins, how many steps, and where to cut a network."""

from edgeinfer.plan.allocation import Allocation, allocate_steps
from edgeinfer.plan.cuts import best_cut
from edgeinfer.plan.paradigms import CRITERIA, best_paradigm, criterion_values, dominance, gains, split_conditions

__all__ = [
    "CRITERIA",
    "Allocation",
    "allocate_steps",
    "best_cut",
    "best_paradigm",
    "criterion_values",
    "dominance",
    "gains",
    "split_conditions",
]

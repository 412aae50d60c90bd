"""Decisions: which paradigm, where in the parameter space each one wins, and how many steps."""

from edgeinfer.plan.allocation import Allocation, allocate_steps
from edgeinfer.plan.paradigms import CRITERIA, best_paradigm, criterion_values, dominance, gains, split_conditions

__all__ = [
    "CRITERIA",
    "Allocation",
    "allocate_steps",
    "best_paradigm",
    "criterion_values",
    "dominance",
    "gains",
    "split_conditions",
]

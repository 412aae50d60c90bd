"""Decisions: which paradigm, where in the parameter space each one wins, and where to cut a network."""

from edgeinfer.plan.cuts import best_cut
from edgeinfer.plan.paradigms import CRITERIA, best_paradigm, criterion_values, dominance, gains, split_conditions

__all__ = ["CRITERIA", "best_cut", "best_paradigm", "criterion_values", "dominance", "gains", "split_conditions"]

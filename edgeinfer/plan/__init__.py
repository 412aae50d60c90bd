"""Decisions: which paradigm, and where in the parameter space each one wins."""

from edgeinfer.plan.paradigms import CRITERIA, best_paradigm, criterion_values, dominance, gains, split_conditions

__all__ = ["CRITERIA", "best_paradigm", "criterion_values", "dominance", "gains", "split_conditions"]

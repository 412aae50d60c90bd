"""The paper's scenario, and one module a figure or table: data(scenario) -> Dataset, draw(data) -> Figure."""

from edgeinfer.paper.scenario import Scenario, scenario

__all__ = ["Scenario", "scenario"]

"""The paper's scenario and the shipped cascade's, and one module a figure or table: data(scenario) -> Dataset, draw(data) -> Figure."""

from typing import Any

from edgeinfer.paper.scenario import Scenario, measured_scenario, scenario

__all__ = ["Scenario", "measured_scenario", "reproduce", "scenario"]


def reproduce(*arguments: Any, **options: Any) -> dict[str, Exception]:
    """See `edgeinfer.paper.reproduction.reproduce`."""
    from edgeinfer.paper import reproduction as module

    return module.reproduce(*arguments, **options)

"""An uplink before the paper's paradigms, on which the paper says nothing."""

from edgeinfer.model import Pipeline, Transfer
from edgeinfer.paper.scenario import Scenario

#: Assumed: Hz, dBm. A terminal's transmitter; path loss, noise, slot and overhead are the downlink's.
LINK = {"bandwidth": 5e6, "tx_power_dbm": 23.0}
#: Assumed, bit: what is asked for, a sentence and a small picture.
REQUEST_BITS = 0.2e6


def stage(scenario: Scenario, bits: float = REQUEST_BITS) -> Transfer:
    """The request on its way to the edge.

    Parameters
    ----------
    scenario : Scenario
    bits : float, bit
        Of the request, > 0.

    Examples
    --------
    >>> from edgeinfer import paper
    >>> round(stage(paper.scenario()).mean(), 3)
    0.116
    """
    return Transfer(bits, scenario.replace(**LINK).link, "uplink")


def pipelines(scenario: Scenario, bits: float = REQUEST_BITS) -> dict[str, Pipeline]:
    """The three paradigms, an uplink before those that use the edge.

    Parameters
    ----------
    scenario, bits
        As for `stage`.

    Examples
    --------
    >>> from edgeinfer import paper
    >>> [len(pipeline) for pipeline in pipelines(paper.scenario()).values()]
    [4, 3, 1]
    """
    first = stage(scenario, bits)
    return {
        name: pipeline if name == "device_only" else Pipeline([first, *pipeline])
        for name, pipeline in scenario.pipelines().items()
    }

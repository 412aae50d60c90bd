"""Random estimates and the intervals about them.

Each interval is an `Estimate`. It rests on units that are independent: replications of a simulation, inputs of a test
set, resampled pairs. Requests of one run are not, since each waits for those before it. They come in groups that are:
the cycles of a queue, which begin anew whenever it is empty, or the rounds of a measurement. `groups.shares` draws
whole groups, and is the one way in which this package tells how sure a share of dependent requests is.
"""

from edgeinfer.estimates.estimate import Estimate
from edgeinfer.estimates.groups import cycles, shares
from edgeinfer.estimates.proportions import largest_share, mean, paired_difference, proportion

__all__ = ["Estimate", "cycles", "largest_share", "mean", "paired_difference", "proportion", "shares"]

"""What follows from a pipeline: latency, energy, bounds, brackets, simulation, inverse problems."""

from edgeinfer.delay.bounds import violation_bound, violation_bracket
from edgeinfer.delay.energy import energy
from edgeinfer.delay.errors import AccuracyWarning, LongRunWarning, UnstableError
from edgeinfer.delay.inverse import deadline_at, max_arrival_rate, min_bandwidth
from edgeinfer.delay.latency import latency, mean_sojourn
from edgeinfer.delay.population import PopulationBracket, PopulationGuarantee, population_bracket
from edgeinfer.delay.rare import rare_violation
from edgeinfer.delay.results import Bracket, Guarantee, Latency, Simulation
from edgeinfer.delay.rounds import BestRounds, best_rounds, timely
from edgeinfer.delay.simulation import simulate
from edgeinfer.estimates.estimate import Estimate

__all__ = [
    "AccuracyWarning",
    "BestRounds",
    "Bracket",
    "Estimate",
    "Guarantee",
    "Latency",
    "LongRunWarning",
    "PopulationBracket",
    "PopulationGuarantee",
    "Simulation",
    "UnstableError",
    "best_rounds",
    "deadline_at",
    "energy",
    "latency",
    "max_arrival_rate",
    "mean_sojourn",
    "min_bandwidth",
    "population_bracket",
    "rare_violation",
    "simulate",
    "timely",
    "violation_bound",
    "violation_bracket",
]

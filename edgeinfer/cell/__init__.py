"""Many terminals at one edge and one band: model, simulation, capacity."""

from edgeinfer.cell.bracket import cell_bracket
from edgeinfer.cell.capacity import Carried, best_batch, max_terminals, min_bandwidth, min_servers
from edgeinfer.cell.choice import Division, ParadigmChoice, best_paradigms
from edgeinfer.cell.model import Cell, Terminals
from edgeinfer.cell.results import BandSimulation, CellSimulation, ClassSimulation, EdgeSimulation, Energy
from edgeinfer.cell.shared import Band, Batching, EdgeNode
from edgeinfer.cell.simulation import simulate_cell
from edgeinfer.cell.stations import loads

__all__ = [
    "Band",
    "BandSimulation",
    "Batching",
    "Carried",
    "Cell",
    "CellSimulation",
    "ClassSimulation",
    "Division",
    "EdgeNode",
    "EdgeSimulation",
    "Energy",
    "ParadigmChoice",
    "Terminals",
    "best_batch",
    "best_paradigms",
    "cell_bracket",
    "loads",
    "max_terminals",
    "min_bandwidth",
    "min_servers",
    "simulate_cell",
]

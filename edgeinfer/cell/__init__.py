"""Many terminals at one edge and one band: model, simulation, capacity."""

from edgeinfer.cell.model import Band, Batch, Cell, EdgeNode, Terminals
from edgeinfer.cell.results import BandSimulation, CellSimulation, ClassSimulation, EdgeSimulation, Energy
from edgeinfer.cell.simulation import simulate_cell
from edgeinfer.cell.stations import loads

__all__ = [
    "Band",
    "BandSimulation",
    "Batch",
    "Cell",
    "CellSimulation",
    "ClassSimulation",
    "EdgeNode",
    "EdgeSimulation",
    "Energy",
    "Terminals",
    "loads",
    "simulate_cell",
]

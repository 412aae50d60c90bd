"""What the figures share: colours that survive grey print, labels, and figures without a display."""

import io
from typing import Any

from edgeinfer._extras import need

#: Colour and marker of each paradigm.
PARADIGMS = {
    "split": ("#0b3c7d", "o", "split (device-edge)"),
    "edge_only": ("#d1712b", "s", "edge only"),
    "device_only": ("#7a9e3b", "^", "device only"),
    "none": ("#dddddd", "", "none"),
}
PROBABILITY = "violation probability"
DEADLINE = "deadline (s)"


def subplots(rows: int = 1, columns: int = 1, size: tuple[float, float] = (6.4, 4.4), **options: Any) -> Any:
    """Figure and axes, drawn off screen; a notebook shows the figure."""
    need("matplotlib", "plots")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    class Shown(Figure):
        def _repr_png_(self) -> bytes:
            buffer = io.BytesIO()
            self.savefig(buffer, format="png")
            return buffer.getvalue()

    figure = Shown(figsize=size, dpi=140, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, **options)


def probability_axes(axes: Any, low: float = 1e-10) -> None:
    """Logarithmic probabilities over deadlines."""
    axes.set_yscale("log")
    axes.set_ylim(low, 2)
    axes.grid(True, which="major", color="0.88", linewidth=0.6)
    axes.set_xlabel(DEADLINE)
    axes.set_ylabel(PROBABILITY)

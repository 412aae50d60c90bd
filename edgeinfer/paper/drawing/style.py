"""What the figures share: colours that survive grey print, labels, and figures without a display."""

import io
from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from functools import wraps
from inspect import signature
from typing import Any

from edgeinfer import _validate
from edgeinfer._extras import need

#: Apart in grey print, too; red marks what is wrong.
SERIES = BLUE, ORANGE, GREEN, PURPLE = "#0b3c7d", "#d1712b", "#4d7722", "#c48fc4"
RED = "#a02020"
#: Colour and marker of each paradigm.
PARADIGMS = {
    "split": (BLUE, "o", "split (device-edge)"),
    "edge_only": (ORANGE, "s", "edge only"),
    "device_only": (GREEN, "^", "device only"),
    "none": ("#dddddd", "", "none"),
}
PROBABILITY = "violation probability"
DEADLINE = "deadline (s)"


#: The size (inches) and the style that the caller of `draw` asks for.
_ASKED: ContextVar[tuple[tuple[float, float] | None, Any]] = ContextVar("asked", default=(None, None))


def drawing(draw: Callable[[Any], Any], text: float | None = None) -> Callable[..., Any]:
    """Give an item's `draw(table)` the options `size` and `style`.

    Parameters
    ----------
    draw : callable
        From a table to a figure made by `subplots`.
    text : float, optional
        Points, of labels and ticks, unless `style` says otherwise; Matplotlib's by default.

    Returns
    -------
    callable
        draw(table, *, size=None, style=None): `size` is (width, height) in inches, each > 0, in the item's own size's
        place; `style` is what `matplotlib.style.context` takes, such as a name, a path, a dict of rc parameters, or a
        list of these, and holds when the figure is saved, too.

    Examples
    --------
    >>> from edgeinfer import paper
    >>> from edgeinfer.paper import dominance
    >>> table = dominance.data(paper.scenario(), points=2)
    >>> figure = dominance.draw(table, size=(3.5, 2.5), style={"font.size": 8})
    >>> [float(side) for side in figure.get_size_inches()]
    [3.5, 2.5]
    """

    @wraps(draw)
    def wrapper(table: Any, *, size: tuple[float, float] | None = None, style: Any = None) -> Any:
        if size is not None:
            sides = _validate.real("size", size, 0, low_open=True)
            if getattr(sides, "shape", ()) != (2,):
                raise ValueError(f"size = {size!r}: must be (width, height), inches")
            size = (float(sides[0]), float(sides[1]))
        styled(style)
        own = [] if text is None else [{"font.size": text}]
        both = own + ([] if style is None else style if isinstance(style, list) else [style])
        token = _ASKED.set((size, both))
        try:
            with styled(both):
                return draw(table)
        finally:
            _ASKED.reset(token)

    # Whoever asks for the signature, a person or `reproduce`, is to see the options.
    wrapper.__signature__ = signature(wrapper, follow_wrapped=False)  # type: ignore[attr-defined]
    return wrapper


def styled(style: Any) -> AbstractContextManager[None]:
    """Matplotlib's parameters as a style has them, for as long as the context is open.

    Parameters
    ----------
    style
        What `matplotlib.style.context` takes; None changes nothing.

    Raises
    ------
    ValueError
        For what is no style.
    """
    need("matplotlib", "plots")
    from matplotlib.style import context

    asked: Any = {} if style is None else style
    try:
        with context(asked):
            pass
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise ValueError(f"style = {style!r}: must be what Matplotlib takes for a style: {error}") from error
    return context(asked)


def subplots(rows: int = 1, columns: int = 1, size: tuple[float, float] = (6.4, 4.4), **options: Any) -> Any:
    """Figure and axes, drawn off screen; a notebook shows the figure."""
    need("matplotlib", "plots")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    asked, style = _ASKED.get()

    class Shown(Figure):
        def savefig(self, *arguments: Any, **options: Any) -> None:
            with styled(style):
                super().savefig(*arguments, **options)

        def _repr_png_(self) -> bytes:
            buffer = io.BytesIO()
            self.savefig(buffer, format="png")
            return buffer.getvalue()

    figure = Shown(figsize=asked or size, dpi=140, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, **options)


def probability_axes(axes: Any, low: float = 1e-10) -> None:
    """Logarithmic probabilities over deadlines."""
    axes.set_yscale("log")
    axes.set_ylim(low, 2)
    axes.grid(True, which="major", color="0.88", linewidth=0.6)
    axes.set_xlabel(DEADLINE)
    axes.set_ylabel(PROBABILITY)


def plain_log(axes: Any, which: str) -> None:
    """A logarithmic axis, "x" or "y", whose ticks are 1, 2 and 5 of each decade as plain numbers."""
    from matplotlib.ticker import LogLocator, NullFormatter

    getattr(axes, f"set_{which}scale")("log")
    axis = getattr(axes, f"{which}axis")
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def legend_below(figure: Any, handles: Any = None, labels: Any = None, *, columns: int, size: float = 8) -> None:
    """A legend below the axes, of `handles` or all that is labelled, in as many of `columns` as there is room for."""
    for count in range(columns, 0, -1):
        legend = figure.legend(handles=handles, labels=labels, loc="outside lower center", ncols=count, fontsize=size)
        if count == 1 or legend.get_window_extent(figure.canvas.get_renderer()).width <= figure.bbox.width:
            break
        legend.remove()


def winners(axes: Any, x: Any, y: Any, names: Any) -> None:
    """A map of the paradigms named in (y, x) `names`, in their colours."""
    need("matplotlib", "plots")
    from matplotlib.colors import ListedColormap

    order = list(PARADIGMS)
    codes = [[order.index(name) for name in row] for row in names]
    colours = ListedColormap([PARADIGMS[name][0] for name in order])
    axes.pcolormesh(x, y, codes, cmap=colours, vmin=-0.5, vmax=len(order) - 0.5, shading="nearest")


def table_head(*columns: str) -> list[str]:
    """The first two lines of a Markdown table.

    Examples
    --------
    >>> table_head("", "deadline (s)")
    ['|  | deadline (s) |', '|---|---|']
    """
    return ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]


def winners_legend(figure: Any, names: Any, none: str = PARADIGMS["none"][2], crosses: str = "") -> None:
    """A legend below the figure of those of the paradigms that are among `names`, with what grey and crosses mean."""
    need("matplotlib", "plots")
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [
        Patch(color=colour, label=none if name == "none" else label)
        for name, (colour, _, label) in PARADIGMS.items()
        if name in names
    ]
    if crosses:
        handles.append(Line2D([], [], linestyle="", marker="x", color="black", label=crosses))
    legend_below(figure, handles, columns=len(handles), size=9)

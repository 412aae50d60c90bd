"""What the figures share, and where their parts lie: colours in grey, boxes and arrows, lines beyond the axes."""

from itertools import combinations

import numpy as np
import pytest

from edgeinfer import paper
from edgeinfer.paper import errata, figure5, figure10
from edgeinfer.paper.drawing import style


def grey(colour):
    """Of #rrggbb as a printer without colours has it, 0 to 255 (ITU-R BT.601)."""
    return np.dot([0.299, 0.587, 0.114], [int(colour[k : k + 2], 16) for k in (1, 3, 5)])


def test_colours_of_series_differ_in_grey():
    for one, other in combinations(style.SERIES, 2):
        assert abs(grey(one) - grey(other)) > 30, (one, other)


def test_plain_ticks_of_a_logarithmic_axis():
    figure, axes = style.subplots()
    axes.plot([1, 2], [0.2, 30])
    style.plain_log(axes, "y")
    figure.canvas.draw()
    low, high = axes.get_ylim()
    shown = [label.get_text() for label in axes.get_yticklabels() if low <= label.get_position()[1] <= high]
    assert shown == ["0.2", "0.5", "1", "2", "5", "10", "20"]


@pytest.mark.parametrize(("width", "columns"), [(6.4, 3), (2.4, 1)])
def test_a_legend_below_keeps_to_the_width(width, columns):
    table = errata.data(paper.scenario())
    figure = errata.draw(table, size=(width, 4.0))
    figure.canvas.draw()
    (legend,) = figure.legends
    place = legend.get_window_extent()
    assert legend._ncols == columns and figure.bbox.x0 <= place.x0 and place.x1 <= figure.bbox.x1
    assert not place.overlaps(figure.axes[0].get_window_extent())


def test_arrows_of_figure_5_end_at_boxes():
    """Heads lay under boxes that their texts had made wider."""
    figure = figure5.draw(figure5.data())
    (axes,) = figure.axes
    figure.canvas.draw()
    boxes = [text.get_bbox_patch().get_window_extent() for text in axes.texts if text.get_bbox_patch()]
    arrows = [text.arrow_patch.get_window_extent() for text in axes.texts if getattr(text, "arrow_patch", None)]
    assert len(boxes) == 6 and len(arrows) == 7
    for arrow in arrows:
        ends = [(arrow.x0 + 2, (arrow.y0 + arrow.y1) / 2), (arrow.x1 - 2, (arrow.y0 + arrow.y1) / 2)]
        assert not any(box.contains(*end) for box in boxes for end in ends)


def test_what_is_below_figure_10_lies_on_its_edge():
    table = figure10.data(paper.scenario(), points=3)
    top = figure10.draw(table).axes[0]
    assert float(table["upper"].min()) < top.get_ylim()[0] == pytest.approx(1e-20)
    assert all(min(line.get_ydata()) >= top.get_ylim()[0] for line in top.lines if len(line.get_ydata()))
    assert "(at 1e-20: this or less)" in top.get_ylabel()

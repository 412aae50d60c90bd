"""Options of the items: another pipeline, another size, another style."""

import numpy as np
import pytest

import edgeinfer as ei
from edgeinfer import paper
from edgeinfer.paper import dominance, figure8, looseness

QUEUES = ei.Pipeline([ei.Exponential(0.5, "edge"), ei.Exponential(0.3, "device")])


def test_figure8_of_another_pipeline():
    scenario = paper.scenario()
    table = figure8.data(scenario, pipeline=QUEUES, points=4, jobs=500, replications=4)
    assert table["stage"].values.tolist() == ["edge", "device"]
    bracket = ei.violation_bracket(QUEUES, scenario.arrival_rate, table["deadline"].values)
    np.testing.assert_array_equal(table["upper"].sel(stage="device"), bracket.upper)
    assert np.isnan(table["printed"]).all() and (table["lundberg"] <= 1).all()
    assert len(figure8.draw(table).axes) == 2


def test_looseness_of_another_pipeline():
    table = looseness.data(paper.scenario(), pipeline=QUEUES, points=1)
    assert table["chain"].values.tolist() == ["path"] and table.sizes["stages"] == 2
    for name in ("load_ratio", "stages_ratio"):
        lower, upper = (table[name].sel({"method": end}) for end in ("lower", "upper"))
        assert (lower <= upper).all() and np.isnan(table[name].sel({"method": "printed"})).all()
    looseness.draw(table)
    with pytest.raises(ValueError, match="points"):
        looseness.data(paper.scenario(), points=0)


def test_size_and_style():
    table = dominance.data(paper.scenario(), points=2)
    figure = dominance.draw(table, size=(3, 2), style=["ggplot", {"font.size": 7}])
    assert figure.get_size_inches().tolist() == [3, 2]
    assert dominance.draw(table).get_size_inches().tolist() != [3, 2]
    plain, styled, again = (
        dominance.draw(table, size=(3, 2), style=style)._repr_png_() for style in (None, "ggplot", None)
    )
    assert plain != styled and plain == again
    for wrong in ((3,), (0, 1), "large", 3):
        with pytest.raises(ValueError, match="size"):
            dominance.draw(table, size=wrong)
    for wrong in ("no such style", {"font.sise": 3}, 7):
        with pytest.raises(ValueError, match="style"):
            dominance.draw(table, style=wrong)

"""Tables of compression at the cut and of early exits."""

import numpy as np

from edgeinfer import paper
from edgeinfer.paper.items import accuracy_bits, early_exit


def test_accuracy_over_bits_and_what_follows():
    table = accuracy_bits.data(paper.scenario(), bits=(4,), qualities=(50,))
    assert set(table["family"].values) == set(accuracy_bits.FAMILIES)
    assert bool((table["violation_lower"] <= table["violation_upper"]).all())
    assert bool((table["bits"] <= table["largest_bits"]).all())
    # Eight times fewer bits than float32 at no more than 1 % of loss, in every family of codecs but one.
    good = table.where((table["loss"] <= 0.01) & (table["bits"] <= table.attrs["float32_bits"] / 8), drop=True)
    assert set(accuracy_bits.FAMILIES[:6]) - set(good["family"].values) <= {"mutual_information"}
    # The raw pixels beat whatever needs more bits, and PCA the pixels.
    pixels = table.sel(point="pixels")
    pca = table.where((table["family"] == "pca") & (table["loss"] <= 0.01), drop=True)
    assert float(pca["violation_upper"].min()) < float(pixels["violation_lower"])
    assert float(table.sel(point="jpeg 50")["violation_lower"]) == 1
    accuracy_bits.draw(table)


def test_exits_under_load():
    table = early_exit.data(points=5, requests=3000, runs=4)
    assert table.attrs["saving"] >= 0.3 and table.attrs["loss"] <= 0.01
    light = table.isel(arrival_rate=0).sel(policy=["none", "exits"])
    # Four runs of 3,000 from an empty system: within 6 standard errors and 3 % (false alarm below 1e-2 by Student's t,
    # seed fixed).
    slack = 6 * light["replayed_sojourn_error"] + 0.03 * light["mean_sojourn"]
    assert bool((np.abs(light["replayed_sojourn"] - light["mean_sojourn"]) < slack).all())
    assert bool(np.isinf(table["mean_sojourn"].isel(policy=[0, 1], arrival_rate=-1)).all())
    last = table["replayed_violation"].isel(arrival_rate=-1)
    assert float(last.sel(policy="deadline")) < 0.05 < 0.5 < float(last.sel(policy="exits"))
    backlog = table["backlog_trace"].mean("time")
    assert (
        float(backlog.sel(policy="deadline")) < float(backlog.sel(policy="exits")) < float(backlog.sel(policy="none"))
    )
    early_exit.draw(table)

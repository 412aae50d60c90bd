"""What Neurosurgeon and DADS observed, on the light models' shapes."""

import numpy as np
import pytest
from bridge import networks

from edgeinfer import Node
from edgeinfer.bridge import read_graph
from edgeinfer.paper import cut_over_rate

DEVICE, EDGE = Node("device", 1e10), Node("edge", 4e10)


@pytest.fixture(scope="module")
def table():
    graphs = {name: read_graph(networks.LIGHT / f"light_{name}.onnx") for name in ("bvlc_alexnet", "inception_v1")}
    return cut_over_rate.data(graphs, DEVICE, EDGE, np.geomspace(1e6, 1e9, 13))


def test_the_cut_moves_to_the_front_as_the_link_grows_faster(table):
    share = table["device_share"].sel(network="bvlc_alexnet").values
    assert share[0] == 1 and share[-1] == 0
    assert (np.diff(share) <= 0).all()
    assert any(0 < value < 1 for value in share)


def test_cuts_through_the_graph_beat_chain_cuts_on_inception(table):
    row = table.sel(network="inception_v1")
    gain = row["throughput"] / row["chain_throughput"]
    assert (gain >= 1 - 1e-9).all()
    assert float(gain.max()) > 1.05
    assert (row["crossing"].values[gain.values > 1.01] > 1).all()
    # By latency they do not, here: one node is uniformly faster, and every module narrows to one tensor.
    np.testing.assert_allclose(row["latency"], row["chain_latency"], rtol=1e-12)
    # On a chain there is nothing to gain.
    chain = table.sel(network="bvlc_alexnet")
    np.testing.assert_allclose(chain["throughput"], chain["chain_throughput"], rtol=1e-8)


def test_drawn(table):
    figure = cut_over_rate.draw(table)
    assert len(figure.axes) == 2
    assert table["latency"].attrs["provenance"] == "derived from FLOP"

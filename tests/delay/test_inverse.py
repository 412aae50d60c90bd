import numpy as np
import pytest

import edgeinfer as ei
from edgeinfer import paper


def test_deadline_is_certified_and_tight():
    pipeline = paper.scenario().pipelines()["split"]
    probabilities = np.array([1e-2, 1e-6])
    deadlines = ei.deadline_at(pipeline, 0.35, probabilities)
    assert (ei.violation_bound(pipeline, 0.35, deadlines) <= probabilities * (1 + 1e-6)).all()
    assert (ei.violation_bound(pipeline, 0.35, deadlines * 0.998) > probabilities).all()
    assert np.isinf(ei.deadline_at(pipeline, 5.0, 1e-3))


def test_rate_and_bandwidth_families():
    scenario = paper.scenario().replace(bandwidth=np.array([5e6, 10e6]))
    pipeline = scenario.pipelines()["edge_only"]
    rates = ei.max_arrival_rate(pipeline, 8.0, 1e-3, method="lundberg", tolerance=1e-2)
    assert rates.shape == (2,) and rates[0] < rates[1]
    assert ei.max_arrival_rate(pipeline, 0.1, 1e-3, method="lundberg")[0] == 0
    bandwidth = ei.min_bandwidth(paper.scenario().pipelines()["split"], 0.35, 1.3, 1e-2, method="lundberg")
    assert np.isinf(bandwidth)


def test_bandwidth_needs_a_link():
    with pytest.raises(ValueError, match="no Transfer"):
        ei.min_bandwidth(paper.scenario().pipelines()["device_only"], 0.1, 5.0, 0.1)

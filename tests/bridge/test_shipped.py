"""The cascades that come with the package: whole, as large as agreed, and as costly as they say."""

import numpy as np
import pytest

from edgeinfer import bridge
from edgeinfer.bridge import runtime

SHIPPED = sorted(path.name for path in runtime._MODELS.glob("*") if (path / "cascade.json").exists())
LARGEST = 14e6


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped(name):
    folder = bridge.shipped(name)
    assert sum(path.stat().st_size for path in folder.rglob("*.onnx")) <= LARGEST
    cascade = bridge.load(folder, threads=1)
    assert cascade.manifest.name == name
    assert cascade.count_flops() == cascade.manifest.flops
    images = cascade.generate([cascade.shortest_caption] * 2, 2, 1, [1, 2])
    assert images.shape == (2, *cascade.manifest.image.shape[1:], 3) and images.std() > 10
    assert np.any(images[0] != images[1])

"""The cascades that come with the package: whole, as large as agreed, and as costly as they say."""

import numpy as np
import pytest

from edgeinfer import bridge
from edgeinfer.network import zoo

SHIPPED = sorted(path.name for path in zoo._MODELS.glob("*") if (path / "cascade.json").exists())
LARGEST = 20e6


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped(name):
    folder = bridge.shipped(name)
    assert sum(path.stat().st_size for path in folder.rglob("*.onnx")) <= LARGEST
    cascade = bridge.load(folder, threads=1)
    assert cascade.manifest.name == name
    assert cascade.count_flops() == cascade.manifest.flops
    images = cascade.generate([cascade.shortest_caption] * 2, 2, 1, [1, 2])
    assert images.shape == (2, *cascade.manifest.image.shape[1:], 3)
    assert np.any(images[0] != images[1])


@pytest.mark.skipif("scenes" not in SHIPPED, reason="the scenes cascade is not shipped")
def test_scenes_draws_what_is_asked_for():
    cascade = bridge.load(threads=1)
    images = cascade.generate(["a large red circle at the middle on white"] * 4, 8, 4, [1, 2, 3, 4]).astype(int)
    red, green, blue = (images[..., channel] for channel in range(3))
    assert np.median(images[:, 0]) > 220 and np.median(images[:, -1]) > 220
    # The disc's share of the picture is about 0.15.
    share = ((red > 150) & (green < 100) & (blue < 100)).mean(axis=(1, 2))
    assert ((share > 0.05) & (share < 0.3)).all()

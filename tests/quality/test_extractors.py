import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgeinfer import quality

RNG = np.random.default_rng(3)
KERNELS = RNG.normal(size=(4, 3, 1, 1)).astype(np.float32), RNG.normal(size=(2, 4, 1, 1)).astype(np.float32)
IMAGES = RNG.integers(0, 256, size=(5, 4, 4, 3), dtype=np.uint8)


def save(path, nodes, inputs, outputs, weights=()):
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(*one) for one in inputs],
        [helper.make_tensor_value_info(*one) for one in outputs],
        [numpy_helper.from_array(array, name) for name, array in weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


@pytest.fixture
def network(tmp_path):
    """Two pointwise convolutions with a ReLU between them, then the mean over places."""
    return save(
        tmp_path / "model.onnx",
        [
            helper.make_node("Conv", ["image", "k0"], ["c0"]),
            helper.make_node("Relu", ["c0"], ["map"]),
            helper.make_node("Conv", ["map", "k1"], ["c1"]),
            helper.make_node("GlobalAveragePool", ["c1"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["features"]),
        ],
        [("image", onnx.TensorProto.FLOAT, ["n", 3, 4, 4])],
        [("features", onnx.TensorProto.FLOAT, ["n", 2])],
        [("k0", KERNELS[0]), ("k1", KERNELS[1])],
    )


def expected(images):
    x = images.transpose(0, 3, 1, 2) / 127.5 - 1
    maps = np.maximum(np.einsum("oc,nchw->nohw", KERNELS[0][:, :, 0, 0], x), 0)
    return maps, np.einsum("oc,nchw->no", KERNELS[1][:, :, 0, 0], maps) / 16


def test_features_of_images(network):
    for batch in (2, 64):
        features = quality.Extractor(network, batch=batch)(IMAGES)
        np.testing.assert_allclose(features, expected(IMAGES)[1], rtol=1e-4, atol=1e-5)


def test_feature_maps_within_the_network(network):
    names = quality.convolution_inputs(network)
    assert names == ("map",)
    (maps,) = quality.Extractor(network, names).layers(IMAGES)
    np.testing.assert_allclose(maps, expected(IMAGES)[0], rtol=1e-4, atol=1e-5)


def test_token_ids_pass_as_they_are(tmp_path):
    path = save(
        tmp_path / "text.onnx",
        [helper.make_node("Cast", ["input_ids"], ["embedding"], to=onnx.TensorProto.FLOAT)],
        [("input_ids", onnx.TensorProto.INT64, ["n", 3])],
        [("embedding", onnx.TensorProto.FLOAT, ["n", 3])],
    )
    np.testing.assert_array_equal(quality.Extractor(path)([[1, 2, 3]]), [[1, 2, 3]])
    with pytest.raises(ValueError, match="second one"):
        quality.convolution_inputs(path)


def test_bad_input(network, tmp_path):
    with pytest.raises(ValueError, match="no tensor 'nowhere'"):
        quality.Extractor(network, ["nowhere"])
    with pytest.raises(ValueError, match="batch"):
        quality.Extractor(network, batch=0)
    extract = quality.Extractor(network)
    with pytest.raises(ValueError, match="must be"):
        extract(IMAGES[:, :2])
    with pytest.raises(ValueError, match="at least one"):
        extract(IMAGES[:0])
    (tmp_path / "torn.onnx").write_bytes(network.read_bytes()[:40])
    with pytest.raises(ValueError, match=r"torn\.onnx: is not a network"):
        quality.Extractor(tmp_path / "torn.onnx")


def test_haar_detail_is_that_of_the_transform():
    images = np.random.default_rng(1).integers(0, 256, (3, 8, 6, 2), np.uint8)
    haar = np.array([[1, 1], [1, -1]]) / np.sqrt(2)
    blocks = images.reshape(3, 4, 2, 3, 2, 2).astype(float)
    bands = np.einsum("ya,xb,niajbc->nyxijc", haar, haar, blocks)
    for order in (1, 2):
        found = [np.mean(np.abs(bands[:, y, x]) ** order, (1, 2)) ** (1 / order) for y, x in ((0, 1), (1, 0), (1, 1))]
        np.testing.assert_allclose(quality.haar_detail(images, order), np.concatenate(found, axis=1), rtol=1e-6)
    assert not quality.haar_detail(images.repeat(2, 1).repeat(2, 2)).any()
    with pytest.raises(ValueError, match="order = 3"):
        quality.haar_detail(images, 3)


@pytest.mark.parametrize(
    "images", [np.zeros((1, 3, 4, 3), np.uint8), np.zeros((1, 4, 4, 3)), np.zeros((0, 4, 4, 3), np.uint8)]
)
def test_haar_detail_refuses(images):
    with pytest.raises(ValueError, match="images of shape"):
        quality.haar_detail(images)

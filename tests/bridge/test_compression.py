"""Compression at the cut: importances, PCA, codecs and their files, and accuracy for real bytes."""

import io
import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edgeinfer as ei
from edgeinfer import bridge
from edgeinfer.bridge import Channels, Codec, fit_codec, fit_pca, importance, lloyd_max, select_channels, uniform
from edgeinfer.bridge.exit import digits

SHAPE = (4, 3, 2)


@pytest.fixture(scope="module")
def network():
    return bridge.load_exits()


@pytest.fixture(scope="module")
def train(network):
    data = digits.load_data("train")
    return data, network.features(data.images, 1)


@pytest.fixture(scope="module")
def test_set():
    return digits.load_data("test")


def tensors(n=60, seed=0, shape=SHAPE):
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(np.prod(shape), np.prod(shape))) * np.geomspace(3, 0.01, np.prod(shape))[:, None]
    return (rng.normal(size=(n, np.prod(shape))) @ mixing).reshape(n, *shape).astype(np.float32)


# --- importance ---


def test_importances_rank_what_they_should():
    rng = np.random.default_rng(1)
    labels = rng.integers(5, size=4000)
    x = rng.normal(size=(4000, 3, 2, 2))
    x[:, 0] *= 10
    x[:, 1] += labels[:, None, None]
    gates = np.broadcast_to([0.1, 0.2, 0.9], (4000, 3))
    assert importance(x, "energy").argmax() == 0
    assert importance(x, "mutual_information", labels=labels).argmax() == 1
    np.testing.assert_allclose(importance(x, "attention", gates=gates), np.array([0.1, 0.2, 0.9]) / 1.2)
    for method in bridge.IMPORTANCES:
        weights = importance(x, method, labels=labels, gates=gates)
        assert weights.shape == (3,) and (weights >= 0).all() and weights.sum() == pytest.approx(1)


def test_mutual_information_is_the_known_one():
    from edgeinfer.bridge.codec.channels import _information

    rng = np.random.default_rng(2)
    labels = rng.integers(2, size=100_000)
    # A binary channel that errs with 0.1: log 2 - H(0.1); and none for independent values, the bias taken off.
    noisy = np.where(rng.random(100_000) < 0.1, 1 - labels, labels).astype(float)
    expected = np.log(2) + 0.1 * np.log(0.1) + 0.9 * np.log(0.9)
    assert _information(noisy, labels) == pytest.approx(expected, abs=0.01)
    assert _information(rng.normal(size=100_000), labels) < 5e-4


# --- PCA ---


def test_pca_is_the_truth_of_the_eigenvectors():
    x = tensors()
    flat = x.reshape(len(x), -1).astype(float)
    values, vectors = np.linalg.eigh(np.cov(flat.T, ddof=0))
    for k in (1, 5, 24):
        pca = fit_pca(x, k)
        projector = vectors[:, ::-1][:, :k] @ vectors[:, ::-1][:, :k].T
        np.testing.assert_allclose(pca.components.T @ pca.components, projector, atol=2e-5)
        restored = pca.backward(pca.forward(x))
        # Eckart and Young: what is lost is the sum of the eigenvalues left out.
        lost = ((restored - x).reshape(len(x), -1).astype(float) ** 2).sum(1).mean()
        assert lost == pytest.approx(values[::-1][k:].sum(), rel=1e-3, abs=1e-8 * values.sum())


def test_pca_equals_numpys_singular_values():
    x = tensors(30)
    flat = (x - x.mean(0)).reshape(len(x), -1).astype(float)
    coefficients = fit_pca(x, 6).forward(x)
    singular = np.linalg.svd(flat, compute_uv=False)[:6]
    np.testing.assert_allclose(np.linalg.norm(coefficients, axis=0), singular, rtol=1e-4)


# --- codecs ---


def all_codecs():
    x = tensors()
    chosen = select_channels(x, importance(x, "energy"), 2)
    steps = {"plain": [], "channels": [chosen], "pca": [fit_pca(x, 5)], "both": [chosen, fit_pca(chosen.forward(x), 3)]}
    for name, transforms in steps.items():
        yield name, fit_codec(x, transforms)
        for quantiser in (uniform, lloyd_max):
            for bits in (1, 3, 8):
                yield f"{name} {quantiser.__name__} {bits}", fit_codec(x, transforms, quantiser, bits)


CODECS = dict(all_codecs())


@pytest.mark.parametrize("entropy", [False, True])
@pytest.mark.parametrize("name", CODECS)
def test_round_trips_through_bytes_and_files(name, entropy, tmp_path):
    codec = replace(CODECS[name], entropy=entropy)
    codec.save(tmp_path / "codec.zip")
    again = Codec.load(tmp_path / "codec.zip")
    again.save(tmp_path / "again.zip")
    assert (tmp_path / "codec.zip").read_bytes() == (tmp_path / "again.zip").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.zip", "codec.zip"]
    for x in [*tensors(4, seed=3), np.zeros(SHAPE, np.float32)]:
        message = codec.encode(x)
        assert isinstance(message, bytes) and message == again.encode(x)
        assert 8 * len(message) <= codec.fixed_bits
        assert entropy or 8 * len(message) == codec.fixed_bits
        y = codec.decode(message)
        assert y.shape == SHAPE and y.dtype == np.float32
        np.testing.assert_array_equal(y, again.decode(message))
        # The same reconstruction by its parts, without any bytes.
        z = x[None]
        for step in codec.steps:
            z = step.forward(z)
        if codec.quantiser is not None:
            z = codec.quantiser.values(codec.quantiser.indices(z[0]))[None]
        for step in codec.steps[::-1]:
            z = step.backward(z)
        np.testing.assert_array_equal(y, z[0])
        if name == "plain":
            np.testing.assert_array_equal(y, x)


def test_bits_are_those_of_the_bytes():
    assert CODECS["plain"].fixed_bits == 32 * 24
    assert CODECS["plain uniform 3"].fixed_bits == 72
    assert CODECS["pca lloyd_max 3"].fixed_bits == 16
    x = np.zeros((8, 16, 16), np.float32)
    codec = fit_codec(np.stack([x, x + 1]), [], uniform, 8, entropy=True)
    assert len(codec.encode(x)) < 40 < codec.fixed_bits // 8 == 2048
    np.testing.assert_allclose(codec.decode(codec.encode(x)), 0, atol=1 / 256)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(CODECS)), st.booleans(), st.binary(max_size=110), st.data())
def test_any_bytes_decode_or_are_refused(name, entropy, noise, data):
    codec = replace(CODECS[name], entropy=entropy)
    message = codec.encode(tensors(1)[0])
    cut = data.draw(st.integers(0, len(message)))
    for damaged in (noise, message[:cut], message + noise, message[:cut] + noise):
        try:
            y = codec.decode(damaged)
        except ValueError as error:
            assert "message" in str(error)
        else:
            assert y.shape == SHAPE and np.isfinite(y).all()


def test_what_no_encoder_writes_is_refused():
    codec = CODECS["plain uniform 3"]
    short = CODECS["pca lloyd_max 3"]
    message = short.encode(tensors(1)[0])
    with pytest.raises(ValueError, match="message of 8 bytes: must have 9"):
        codec.decode(bytes(8))
    with pytest.raises(ValueError, match="bits that fill"):
        short.decode(message[:-1] + b"\xff")
    squeezed = replace(codec, entropy=True)
    with pytest.raises(ValueError, match="not zstd"):
        squeezed.decode(b"\x00")
    with pytest.raises(ValueError, match="not finite"):
        CODECS["plain"].decode(np.full(24, np.nan, np.float32).tobytes())


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"format": 9}, "format"),
        ({"shape": [1, 2]}, "shape"),
        ({"shape": [9, 3, 2]}, "steps.0."),
        ({"steps": [{"kind": "wavelet"}]}, "wavelet"),
        ({"steps": [{"kind": "autoencoder", "input": [4, 3, 2], "output": [5]}]}, "0_encoder"),
        ({"steps": 3}, "TypeError"),
        (None, "JSONDecodeError"),
    ],
)
def test_files_that_lie(tmp_path, change, text):
    path = tmp_path / "codec.zip"
    CODECS["pca uniform 3"].save(path)
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    head = "{" if change is None else json.dumps(json.loads(files["codec.json"]) | change)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (files | {"codec.json": head}).items():
            archive.writestr(name, content)
    with pytest.raises(ValueError, match=f"codec.zip: not a codec: .*{text}" if change else text):
        Codec.load(path)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_torn_files_are_refused_by_name(data):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "codec.zip"
        CODECS["pca uniform 3"].save(path)
        content = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 8))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
        try:
            codec = Codec.load(path)
        except ValueError as error:
            assert "codec.zip: not a codec" in str(error)
        else:
            assert codec.shape == SHAPE


def test_pickles_are_not_opened(tmp_path):
    path = tmp_path / "codec.zip"
    CODECS["pca uniform 3"].save(path)
    with zipfile.ZipFile(path) as archive:
        head = archive.read("codec.json")
    buffer = io.BytesIO()
    np.savez(buffer, **{"0_mean": np.array([object()]), "0_components": np.ones(1), "levels": np.ones(1)})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("codec.json", head)
        archive.writestr("arrays.npz", buffer.getvalue())
    with pytest.raises(ValueError, match="allow_pickle"):
        Codec.load(path)


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "codec.zip"
    path.write_text("old")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        CODECS["plain"].save(path)
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1


# --- the shipped network ---


def test_the_shipped_codec_keeps_the_accuracy(network, test_set):
    codec = Codec.load(network.manifest.folder / "codecs" / "cut_1.zip")
    (point,) = bridge.rate_accuracy(network, {"shipped": codec}, *test_set)
    assert point.loss.value <= 0.01 and point.loss.low <= 0
    assert point.largest_bits == codec.fixed_bits
    assert 32 * np.prod(codec.shape) >= 8 * point.largest_bits
    assert point.row()["accuracy"] == point.accuracy.value


def test_every_family_gets_better_with_bits_and_beats_eightfold(network, train, test_set):
    data, x = train
    gates = network.gates(data.images, 1)
    pca = fit_pca(x, 32)
    codecs = {}
    for method in bridge.IMPORTANCES:
        weights = importance(x, method, labels=data.labels, gates=gates)
        for keep in (4, 12):
            codecs[f"{method} {keep}"] = fit_codec(x, [select_channels(x, weights, keep)], lloyd_max, 2, entropy=True)
    for item in network.manifest.autoencoders:
        steps = [bridge.read_autoencoder(item.encoder, item.decoder)]
        codecs |= {f"autoencoder {item.values} {bits}": fit_codec(x, steps, lloyd_max, bits) for bits in (1, 4)}
    codecs |= {f"pca {bits}": fit_codec(x, [pca], lloyd_max, bits) for bits in (1, 4)}
    codecs |= {f"plain {bits}": fit_codec(x, [], uniform, bits, entropy=True) for bits in (1, 4)}
    points = {point.name: point for point in bridge.rate_accuracy(network, codecs, *test_set)}
    families = [*bridge.IMPORTANCES, "autoencoder 16", "autoencoder 32", "pca", "plain"]
    for family in families:
        few, many = (point for name, point in points.items() if name.startswith(family + " "))
        assert few.bits.value < many.bits.value and few.loss.value > many.loss.value
        assert many.loss.value <= 0.025 and many.bits.value < 32 * x[0].size / 8
    best = bridge.fewest_bits(points.values(), 0.02)
    assert best.bits.value < 200 and best.loss.high <= 0.02
    # All 1,024 values travel in the plain tensor: zstd gains on the packed indices where many are equal.
    assert points["plain 4"].bits.value < 0.7 * codecs["plain 4"].fixed_bits


def test_what_a_codec_costs(network):
    item = network.manifest.autoencoders[0]
    step = bridge.read_autoencoder(item.encoder, item.decoder)
    # Convolutions 16 -> 32 and 32 -> 1 at 4 x 4; then 1 -> 32 at 4 x 4, and 4 x 4 x 32 inputs to 16 channels of 4 x 4.
    encoder, decoder = 2 * 16 * 9 * (32 * 16 + 32 * 1), 2 * 16 * (9 * 32 + 32 * 16 * 16)
    assert Codec((16, 8, 8), [step]).flops == (encoder, decoder)
    x = tensors()
    steps = [select_channels(x, [1, 2, 3, 4], 2), fit_pca(x[:, :2], 3)]
    assert Codec(SHAPE, steps).flops == (2 * 3 * 12, 2 * 3 * 12)


def test_offload_of_the_whole_input(network, test_set):
    points = {p.name: p for p in bridge.offload(network, *test_set, levels=17, qualities=(10, 95))}
    assert points["pixels"].bits.value == 320 and points["pixels"].loss.value == 0
    assert points["jpeg 10"].loss.value > 0.01 >= points["jpeg 95"].loss.value
    for quality in (10, 95):
        # The rest of a file of one component: headers and tables, the same in each.
        rest = points[f"jpeg {quality}"].bits.value - points[f"jpeg scan {quality}"].bits.value
        assert rest % 8 == pytest.approx(0, abs=1e-6) and 2000 < rest < 3200


def test_bits_become_a_violation_probability(network, train, test_set):
    _, x = train
    pca = fit_pca(x, 32)
    codecs = {f"pca {bits}": fit_codec(x, [pca], lloyd_max, bits) for bits in (1, 4, 8)}
    points = bridge.rate_accuracy(network, codecs, *test_set)
    link = ei.RayleighLink(50e3, 31, -100, 128.1, 1e-3)
    device, edge = (ei.Node(name, flops) for name, flops in (("device", 5e8), ("edge", 1e10)))
    segments = [segment.flops for segment in network.manifest.segments]
    pipeline = ei.Pipeline(
        [
            ei.Compute(segments[0], device, "device"),
            ei.Transfer([point.largest_bits for point in points], link, "uplink"),
            ei.Compute(sum(segments[1:]) + network.manifest.exits[-1].flops, edge, "edge"),
        ]
    )
    bracket = ei.violation_bracket(pipeline, 100.0, 0.02)
    assert (np.diff(bracket.lower) > 0).all() and (bracket.lower <= bracket.upper).all()
    assert points[0].accuracy.value < points[-1].accuracy.value


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: importance(np.ones((2, 2)), "energy"), "features of shape"),
        (lambda: importance(np.ones((2, 2, 1, 1)), "luck"), "method = 'luck'"),
        (lambda: importance(np.ones((2, 2, 1, 1)), "attention"), "gates = None"),
        (lambda: importance(np.ones((2, 2, 1, 1)), "mutual_information", labels=[1]), "labels of shape"),
        (lambda: importance(np.full((2, 2, 1, 1), np.nan), "energy"), "features"),
        (lambda: select_channels(tensors(), [1, 2, 3, 4], 5), "keep = 5"),
        (lambda: select_channels(tensors(), [1, 2], 1), "importance of shape"),
        (lambda: Channels([0, 0], np.zeros(SHAPE)), "each once"),
        (lambda: Channels([4], np.zeros(SHAPE)), "kept"),
        (lambda: Channels([], np.zeros(SHAPE)), "kept"),
        (lambda: fit_pca(tensors(10), 10), "components = 10"),
        (lambda: bridge.PCA(np.zeros(SHAPE), np.ones((1, 3))), "components of shape"),
        (lambda: Codec((4, 3)), "shape = "),
        (lambda: Codec(SHAPE, ["pca"]), r"steps\[0\]"),
        (lambda: Codec((1, 1, 1), [fit_pca(tensors(), 2)]), r"steps\[0\]: takes"),
        (lambda: Codec(SHAPE, [], bridge.Quantiser([[0, 1]])), "quantiser has 1 groups"),
        (lambda: CODECS["plain"].encode(np.zeros((1, 2, 3))), "tensor of shape"),
        (lambda: CODECS["plain"].encode(np.full(SHAPE, np.inf)), "tensor: must be finite"),
        (lambda: bridge.Autoencoder(SHAPE, (1,), b"", b"").forward(tensors()), "encoder: ONNX Runtime"),
        (lambda: bridge.fewest_bits([], 0.1), "accuracy_loss = 0.1"),
    ],
)
def test_bad_input_is_named(call, text):
    with pytest.raises(ValueError, match=text):
        call()


@pytest.mark.parametrize("labels", [3, [3], np.full((20, 1), 3), np.full(20, 3.5), np.full(20, 10)])
def test_labels_that_are_not_one_integer_for_each_image_are_refused(network, test_set, labels):
    """A single one would be compared with all."""
    images, codec = test_set.images[:20], Codec.load(network.manifest.folder / "codecs" / "cut_1.zip")
    for call in (
        lambda: bridge.rate_accuracy(network, {"shipped": codec}, images, labels),
        lambda: bridge.offload(network, images, labels, levels=17),
        lambda: bridge.serve_exits(network, images, labels, bridge.ExitRule([0.0, 0.0]), [0.0, 0.001]),
    ):
        with pytest.raises(ValueError, match="labels"):
            call()


def test_bad_offload(network, test_set):
    with pytest.raises(ValueError, match="levels = 3"):
        bridge.offload(network, *test_set, levels=3)
    with pytest.raises(ValueError, match="quality = 99"):
        bridge.offload(network, *test_set, levels=17, qualities=[99])

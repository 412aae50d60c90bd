"""The training script: every part learns, stops and goes on, and comes out as ONNX that says what torch says."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from edgeinfer import bridge, scenes  # noqa: E402

PARTS = (
    "text_encoder",
    "prior_16",
    "prior_32",
    "decoder",
    "checker",
    "embedder",
    "feature",
    "checker_2",
    "text_reader",
)


@pytest.fixture(scope="module")
def training():
    """The scripts, which are no package, under their own names."""
    folder = str(Path(__file__).parents[2] / "training")
    if not Path(folder).is_dir():
        pytest.skip("training/ is not part of an installed package")
    sys.path.insert(0, folder)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    import evaluate
    import export
    import spoiled
    import stages
    import train

    yield {"evaluate": evaluate, "export": export, "spoiled": spoiled, "stages": stages, "train": train}
    torch.set_num_threads(threads)
    sys.path.remove(folder)
    for name in ("evaluate", "export", "networks", "spoiled", "stages", "train"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def run(training, tmp_path_factory):
    """A run of two steps of every part, and its export."""
    folder = tmp_path_factory.mktemp("run")
    for part in PARTS:
        training["train"].train(folder, part, seed=3, steps=2, batch=4)
    return folder, training["export"].export(folder, folder / "model")


def test_training_goes_on_where_it_stopped_with_the_same_bits(training, run, tmp_path):
    train = training["train"].train
    (tmp_path / "text_encoder.pt").write_bytes((run[0] / "text_encoder.pt").read_bytes())
    train(tmp_path, "decoder", seed=3, steps=1, batch=4)
    train(tmp_path, "decoder", seed=3, steps=2, batch=4)
    straight, resumed = (torch.load(folder / "decoder.pt", weights_only=True) for folder in (run[0], tmp_path))
    assert resumed["step"] == 2
    for wrong in ({"seed": 4, "batch": 4}, {"seed": 3, "batch": 5}):
        with pytest.raises(ValueError, match=r"decoder\.pt: is of (seed = 3, not 4|batch = 4, not 5): remove it"):
            train(tmp_path, "decoder", steps=3, **wrong)
    assert not list(tmp_path.glob("*.part"))
    for kind in ("net", "average"):
        for name, value in straight[kind].items():
            assert torch.equal(value, resumed[kind][name]), (kind, name)


def test_each_loss_falls_when_one_batch_is_repeated(training):
    from networks import build

    stages = training["stages"]
    reader = build("text_encoder")
    encode = torch.no_grad()(reader.encoder)
    for part in PARTS:
        torch.manual_seed(0)
        net = build(part)
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
        losses = []
        for _ in range(6):
            loss = stages.STAGES[part].loss(net, stages.Draw(0, part, 0, 8), encode)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < losses[0], part


def test_spoiled_pictures_are_what_their_classes_say(training):
    rng = np.random.default_rng(7)
    batch = scenes.draw(300, rng)
    images, truth = training["spoiled"].pictures(batch, rng)
    seen, drawn = scenes.measure(images), scenes.labels(batch)
    layout = truth["layout"]
    assert (seen.count[layout == 3] == 0).all()
    # The referee sees the object too many, unless it touches its like.
    other = layout == 4
    alone = other & (batch.layout == 0)
    assert (seen.count[other & ~alone] == 3).mean() > 0.8 and (seen.count[alone] == 2).mean() > 0.8
    whole = layout < 3
    plain = whole & (truth["shape_a"] < len(scenes.SHAPES)) & (truth["shape_b"] < len(scenes.SHAPES))
    # Bent a little, shapes keep their names.
    read = seen.labels()
    assert all((read[head] == drawn[head])[plain].mean() > 0.97 for head in ("shape_a", "colour_a", "layout"))
    between = whole & ~plain
    rendered = np.minimum(seen.overlap[:, 0], np.where(np.isnan(seen.overlap[:, 1]), 1, seen.overlap[:, 1]))
    assert np.median(rendered[between]) < np.median(rendered[plain]) - 0.05
    for head, values in truth.items():
        assert (values[whole & plain] == drawn[head][whole & plain]).all()
        assert head in ("layout", "background") or (values[~whole] == -1).all()
    assert min(len(np.unique(layout)), other.sum(), (layout == 3).sum(), between.sum()) >= 5


def test_damage_loses_and_replaces_words_as_often_as_asked(training):
    rng = np.random.default_rng(8)
    sentences = scenes.captions(scenes.draw(400, rng))
    damaged = training["spoiled"].damaged(sentences, np.full(400, 0.3), rng)
    words = sum(len(sentence.split()) for sentence in sentences)
    lost = words - sum(len(sentence.split()) for sentence in damaged)
    # Of some 4,000 words 0.15 are lost: five standard deviations are 0.03.
    assert abs(lost / words - 0.15) < 0.03
    assert training["spoiled"].damaged(sentences, np.zeros(400), rng) == sentences
    assert all(sentence for sentence in training["spoiled"].damaged(sentences, np.ones(400), rng))


def test_the_schedule_of_noise_is_that_of_diffusers(training):
    diffusers = pytest.importorskip("diffusers")
    reference = diffusers.DDIMScheduler(beta_schedule="squaredcos_cap_v2")
    # Theirs is accumulated in float32.
    np.testing.assert_allclose(training["stages"].alphas_cumprod(), reference.alphas_cumprod, rtol=1e-3, atol=1e-7)


def test_the_export_is_complete_and_runs(training, run):
    folder, manifest = run[0] / "model", run[1]
    assert json.loads((folder / "cascade.json").read_text()) == manifest
    index = json.loads((folder / "model_index.json").read_text())
    vocabulary = json.loads((folder / "tokenizer" / "vocab.json").read_text())
    assert vocabulary == {"words": {w: i for i, w in enumerate(scenes.WORDS)}, "length": scenes.LENGTH, "pad": 0}
    for part in set(PARTS) - {"embedder"}:
        assert part in index
        assert (folder / part / "config.json").exists()
    captions = scenes.captions(scenes.draw(3, 0, held=True))
    cascade, judges = bridge.load(folder, threads=1), training["evaluate"].Judges(folder)
    latent = cascade.prior(captions, 2, [1, 2, 3])
    image = cascade.decode(captions, latent, 2, [1, 2, 3])
    assert latent.shape == (3, *manifest["wire"]["shape"]) and np.isfinite(latent).all()
    channels, height, width = manifest["image"]["shape"]
    assert image.shape == (3, height, width, channels)
    # One by one or together, the noise of an image is its own.
    np.testing.assert_allclose(cascade.prior(captions[1:2], 2, [2]), latent[1:2], atol=1e-4)
    assert set(judges(image, captions, 3)) >= {"all", "shape", "clip"}
    score = judges.clip_scores(image, captions)
    assert ((score >= 0) & (score <= 100)).all()
    # What the manifest says a pass costs is what is counted on the files.
    counted = cascade.count_flops()
    assert {name: manifest["flops"][name] for name in ("encoder", "prior_step", "feature", "decode_step")} == vars(
        counted
    )


def test_weights_are_stored_as_float16_and_used_as_float32(training, run):
    model = onnx.load(run[0] / "model" / "decoder" / "model.onnx")
    large = [
        t for t in model.graph.initializer if int(np.prod(t.dims)) >= 256 and t.data_type != onnx.TensorProto.INT64
    ]
    assert large
    assert {t.data_type for t in large} == {onnx.TensorProto.FLOAT16}
    casts = {n.input[0]: n for n in model.graph.node if n.op_type == "Cast"}
    assert {casts[t.name].attribute[0].i for t in large} == {onnx.TensorProto.FLOAT}
    # A weight is off by at most 2^-11 of itself; the image must not be off by more than a few of 255 levels.
    assert max(run[1]["provenance"]["difference_from_torch"].values()) < 0.01


def test_upsampling_and_scores_of_the_evaluation(training):
    evaluate = training["evaluate"]
    rng = np.random.default_rng(0)
    images = rng.uniform(-1, 1, (3, 3, 8, 8)).astype(np.float32)
    # A straight line is kept by Keys's cubic away from the border, and both keep the mean of a constant.
    ramp = np.broadcast_to(np.linspace(-0.7, 0.7, 8, dtype=np.float32), (1, 3, 8, 8))
    wide = evaluate.larger(ramp, "bicubic")[0, 0, 0]
    np.testing.assert_allclose(np.diff(wide[4:-4]), 0.1, atol=1e-6)
    for kind in ("nearest", "bicubic"):
        np.testing.assert_allclose(evaluate.larger(np.full_like(images, 0.25), kind), 0.25, atol=1e-6)
    np.testing.assert_allclose(evaluate.smaller(evaluate.larger(images, "nearest"), 2), images, atol=1e-6)
    # Rounding to 256 levels costs half a level.
    pixels = evaluate.to_pixels(images)
    assert pixels.shape == (3, 8, 8, 3) and np.abs(evaluate.to_model(pixels) - images).max() <= 0.5 / 127.5 + 1e-6
    for dtype, bound in (("float32", 0), ("float16", 2.0**-11), ("uint8", 1 / 255 + 1e-6)):
        assert np.abs(evaluate.quantised(images, dtype) - images).max() <= bound
    found = evaluate.estimate(np.repeat(rng.normal(5, 1, 400), 4), 400)
    # The interval of 400 groups of equal values is that of 400 values: 1.96 / 20 either side.
    assert abs((found["high"] - found["low"]) / 2 - 1.96 / 20) < 0.02
    assert found["low"] < found["value"] < found["high"]

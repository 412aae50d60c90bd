"""Running the tiny cascade: noise by seed, guidance, the split, the wire, and bad input."""

import dataclasses
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from bridge import tiny
from edgeinfer import bridge

CAPTIONS, SEEDS = tiny.CAPTIONS, [11, 12, 13]
Z = np.zeros((1, 3, 32, 32), np.float32)


def difference(a, b):
    return np.abs(a.astype(int) - b.astype(int)).max()


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_a_seed_gives_one_image_whatever_the_batch(cascade, sampler):
    together = cascade.generate(CAPTIONS, 4, 3, SEEDS, wire="float32", sampler=sampler)
    for i in range(3):
        alone = cascade.generate([CAPTIONS[i]], 4, 3, [SEEDS[i]], wire="float32", sampler=sampler)
        # The batch changes the order of float32 sums: at most one level where a value sits at a rounding edge.
        assert difference(alone[0], together[i]) <= 1
    backwards = cascade.generate(CAPTIONS[::-1], 4, 3, SEEDS[::-1], wire="float32", sampler=sampler)
    assert difference(backwards[::-1], together) <= 1
    assert difference(together[0], cascade.generate([CAPTIONS[0]], 4, 3, [99], sampler=sampler)[0]) > 1
    other = cascade.generate([CAPTIONS[1]], 4, 3, [SEEDS[0]], wire="float32", sampler=sampler)
    assert difference(together[0], other[0]) > 1


def test_a_walk_begins_from_weaker_noise_where_the_scheduler_says_so(cascade, monkeypatch):
    manifest = cascade.manifest
    scheduler = dataclasses.replace(manifest.scheduler, init_noise_sigma=0.5)
    weaker = bridge.GenerativeCascade(dataclasses.replace(manifest, scheduler=scheduler), threads=1)
    begun = {}
    for name, whole in (("as it is", cascade), ("weaker", weaker)):
        run = whole._run

        def spy(part, feeds, output, observe=None, run=run, name=name):
            if "sample" in feeds:
                begun.setdefault((name, part.name), feeds["sample"].copy())
            return run(part, feeds, output, observe)

        monkeypatch.setattr(whole, "_run", spy)
        whole.generate(CAPTIONS, 2, 2, SEEDS)
    parts = [network.part.name for stage in manifest.stages for network in stage.networks]
    for part in parts:
        np.testing.assert_array_equal(begun["weaker", part], 0.5 * begun["as it is", part])


def test_a_store_tells_cascades_apart_by_what_they_paint_with(tiny_folder, tmp_path):
    folder = shutil.copytree(tiny_folder, tmp_path / "tiny")
    first = bridge.load(folder).store_identity
    used = bridge.load(folder, threads=1)
    used.generate(CAPTIONS, 2, 2, SEEDS)
    assert used.store_identity == first
    (folder / "rules.json").write_text("{}")
    assert bridge.load(folder).store_identity == first
    manifest = bridge.load(folder).manifest
    scheduler = dataclasses.replace(manifest.scheduler, init_noise_sigma=0.5)
    weaker = bridge.GenerativeCascade(dataclasses.replace(manifest, scheduler=scheduler))
    weights = next(folder.rglob("*.onnx"))
    with weights.open("ab") as file:
        file.write(b"\0")
    assert len({first, weaker.store_identity, bridge.load(folder).store_identity}) == 3


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_the_split_is_generate(tiny_folder, cascade, dtype, sampler):
    edge, device = (bridge.load(tiny_folder, threads=1) for _ in range(2))
    latent = edge.prior(CAPTIONS, 3, SEEDS, sampler=sampler)
    assert latent.dtype == np.float32 and latent.shape == (3, 3, 32, 32)
    packed = bridge.pack(latent, dtype, (-1, 1))
    assert packed.nbytes * 8 == 3 * edge.manifest.wire.bits[dtype]
    image = device.decode(CAPTIONS, bridge.unpack(packed, (-1, 1)), 2, SEEDS, sampler=sampler)
    assert image.shape == (3, 64, 64, 3) and image.dtype == np.uint8 and image.std() > 10
    np.testing.assert_array_equal(image, cascade.generate(CAPTIONS, 3, 2, SEEDS, wire=dtype, sampler=sampler))
    assert set(edge._sessions) == {"text_encoder", "prior_16", "prior_32"}
    assert set(device._sessions) == {"text_encoder", "decoder"}


def by_hand(folder, captions, latent, steps, seeds, guidance):
    """The decode stage written out with ONNX Runtime and the scheduler's formulas in float64."""
    text = onnxruntime.InferenceSession(folder / "text_encoder" / "model.onnx")
    decoder = onnxruntime.InferenceSession(folder / "decoder" / "model.onnx")
    words = {word: i + 1 for i, word in enumerate(tiny.WORDS)}
    images = []
    for caption, z, seed in zip(captions, latent, seeds, strict=True):
        ids = [words[word] for word in caption.split()]
        ids = np.array([ids + [0] * (tiny.LENGTH - len(ids))])
        context = text.run(None, {"input_ids": ids})[0]
        noise = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1, 0)))
        x = noise.standard_normal((3, 64, 64), np.float32).astype(float)[None]
        times = [round(1000 - i * 1000 / steps) - 1 for i in range(steps)]
        product = bridge.Scheduler(beta_schedule="squaredcos_cap_v2").alphas_cumprod
        for time in times:

            def run(c, image, x=x, time=time):
                feeds = {"sample": x.astype(np.float32), "timestep": np.array([time]), "image": image}
                return decoder.run(None, feeds | {"encoder_hidden_states": c})[0].astype(float)

            v, null = run(context, z[None]), run(np.zeros_like(context), np.zeros_like(z[None]))
            v = null + guidance * (v - null)
            signal, rest = np.sqrt(product[time]), np.sqrt(1 - product[time])
            clean, epsilon = np.clip(signal * x - rest * v, -1, 1), rest * x + signal * v
            before = time - 1000 // steps
            target = product[before] if before >= 0 else 1.0
            x = np.sqrt(target) * clean + np.sqrt(1 - target) * epsilon
        images.append(np.clip((x[0] + 1) * 127.5, 0, 255).round().astype(np.uint8).transpose(1, 2, 0))
    return np.array(images)


@pytest.mark.parametrize("guidance", [0.0, 1.0, 1.5, 4.0])
def test_guidance_is_equation_2(tiny_folder, cascade, guidance):
    latent = cascade.prior(CAPTIONS, 2, SEEDS)
    image = cascade.decode(CAPTIONS, latent, 4, SEEDS, guidance=guidance)
    wanted = by_hand(tiny_folder, CAPTIONS, latent, 4, SEEDS, guidance)
    # float32 here, float64 there: 1e-5 of the range, so a level at a rounding edge.
    assert difference(image, wanted) <= 1 and (image != wanted).mean() < 1e-3


def test_guidance_passes(cascade):
    calls = []
    cascade.decode(CAPTIONS, cascade.prior(CAPTIONS, 1, SEEDS), 3, SEEDS, observe=lambda *call: calls.append(call))
    assert [call[0] for call in calls] == ["text_encoder"] + 3 * ["decoder"]
    assert all(0 <= start <= end for _, start, end in calls)
    costs, one = cascade.costs(), cascade.costs("float16", guidance=1)
    assert costs.decode_step == 2 * one.decode_step == 2 * tiny.FLOPS["decode_step"]
    assert costs.prior_step == one.prior_step == tiny.FLOPS["prior_step"]
    assert (costs.latent_bits, one.latent_bits, costs.image_bits) == (24576, 49152, 98304)


def test_flops_of_the_manifest_are_those_of_the_graphs(cascade):
    assert vars(cascade.count_flops()) == tiny.FLOPS


def test_progress(cascade):
    seen = []
    cascade.generate(CAPTIONS[:1], 3, 2, [1], progress=lambda *call: seen.append(call))
    assert seen == [(i, 8) for i in range(1, 9)]
    seen.clear()
    cascade.prior(CAPTIONS[:1], 3, [1], progress=lambda *call: seen.append(call))
    assert seen == [(i, 6) for i in range(1, 7)]


def test_an_exception_in_progress_ends_the_run(cascade):
    def stop(done, total):
        if done == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        cascade.prior(CAPTIONS, 50, SEEDS, progress=stop)


def test_threads_share_a_cascade(tiny_folder, cascade):
    shared = bridge.load(tiny_folder, threads=1)
    wanted = [cascade.generate([CAPTIONS[seed % 3]], 3, 3, [seed]) for seed in range(12)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda seed: shared.generate([CAPTIONS[seed % 3]], 3, 3, [seed]), range(12)))
    np.testing.assert_array_equal(answers, wanted)


@pytest.mark.parametrize("module", ["onnx", "onnxruntime"])
def test_a_missing_library_is_named(tiny_folder, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf'{module} is missing: pip install "edgeinfer\[bridge\]"'):
        bridge.load(tiny_folder).prior(["a"], 1, [1])


anything = st.one_of(st.floats(), st.integers(-3, 3), st.none(), st.text(max_size=2), st.lists(st.floats(), max_size=3))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_nothing_but_value_errors(cascade, data):
    one, two = data.draw(anything), data.draw(anything)
    calls = [
        lambda: cascade.prior(["a"], one, [two]),
        lambda: cascade.prior(["a"], 1, one, guidance=two),
        lambda: cascade.prior(one, 1, [1], sampler=two),
        lambda: cascade.decode(["a"], one, 1, [1]),
        lambda: cascade.decode(["a"], Z, one, [1], guidance=two),
        lambda: cascade.generate(["a"], one, 1, [1], wire=two),
        lambda: cascade.costs(one, guidance=two),
        lambda: bridge.pack(Z, "uint8", one),
        lambda: bridge.pack(one, two),
        lambda: bridge.unpack(one, two),
        lambda: bridge.Scheduler().steps(one, two),
        lambda: bridge.Scheduler.from_config({"beta_start": one, "num_train_timesteps": two}),
    ]
    try:
        data.draw(st.sampled_from(calls))()
    except ValueError as error:
        assert str(error)


def test_prepare_loads_a_stage(tiny_folder):
    cascade = bridge.load(tiny_folder, threads=1)
    cascade.prepare("decode")
    assert set(cascade._sessions) == {"text_encoder", "decoder"}


def test_tokens(cascade):
    ids = cascade.tokens(["a red circle", "the blue square"])
    assert ids.shape == (2, 16) and ids.dtype == np.int64
    assert ids[0].tolist() == [1, 5, 8] + [0] * 13


@settings(max_examples=60, deadline=None)
@given(
    latent=arrays(np.float32, array_shapes(max_side=5), elements=st.floats(-3, 3, width=32)),
    low=st.floats(-2, 1),
    width=st.floats(0.1, 4),
)
def test_wire(latent, low, width):
    interval = (low, low + width)
    np.testing.assert_array_equal(bridge.unpack(bridge.pack(latent, "float32")), latent)
    half = bridge.unpack(bridge.pack(latent, "float16"))
    # Half a unit in the last place of 11 bits, or of the smallest subnormal.
    assert np.all(np.abs(half - latent) <= np.maximum(np.abs(latent) * 2**-11, 2**-25))
    packed = bridge.pack(latent, "uint8", interval)
    assert packed.dtype == np.uint8 and packed.shape == latent.shape
    back = bridge.unpack(packed, interval)
    # Half a step, and float32's rounding of a few operations on numbers below 8.
    assert np.all(np.abs(back - np.clip(latent, *interval)) <= width / 510 + 8 * 2**-22)
    np.testing.assert_array_equal(bridge.pack(back, "uint8", interval), packed)


def test_wire_edges():
    x = np.array([-5, -1, 0, 1, 5], np.float32)
    assert bridge.pack(x, "uint8", (-1, 1)).tolist() == [0, 0, 128, 255, 255]
    kept = x.copy()
    bridge.pack(x, "float32")[0] = 9
    np.testing.assert_array_equal(x, kept)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda c: c.prior(CAPTIONS, 0, SEEDS), "prior steps = 0: must be a whole number >= 1"),
        (lambda c: c.prior(CAPTIONS, 1001, SEEDS), "steps = 1001: must be at most 1000"),
        (lambda c: c.prior(CAPTIONS, 1.5, SEEDS), "prior steps = 1.5"),
        (lambda c: c.prior(CAPTIONS, 2, SEEDS, guidance=2.0), "guidance = 2: must be 1, the prior stage has no null"),
        (lambda c: c.prior(CAPTIONS, 2, SEEDS, sampler="euler"), "sampler = 'euler'"),
        (lambda c: c.prior(CAPTIONS, 2, [1, 2]), "must be 3 whole numbers"),
        (lambda c: c.prior(CAPTIONS, 2, 7), "seeds = 7: must be 3 whole numbers"),
        (lambda c: c.prior(CAPTIONS, 2, [1, 2, -1]), r"seeds\[2\] = -1"),
        (lambda c: c.prior(CAPTIONS, 2, [1, 2, 0.5]), r"seeds\[2\] = 0.5"),
        (lambda c: c.prior("a red circle", 2, [1]), "captions = 'a red circle': must be a sequence"),
        (lambda c: c.prior([], 2, []), "at least one caption"),
        (lambda c: c.prior([None], 2, [1]), r"captions\[0\] = None: must be a str"),
        (
            lambda c: c.prior(["a red cat"], 2, [1]),
            r"captions\[0\] = 'a red cat': word 'cat' is not in the vocabulary; nearest are '",
        ),
        (lambda c: c.prior([""], 2, [1]), r"captions\[0\] = '': must have 1 to 16 words"),
        (lambda c: c.prior(["red " * 17], 2, [1]), "must have 1 to 16 words"),
        (lambda c: c.decode(["a"], Z, 0, [1]), "decode steps = 0"),
        (lambda c: c.decode(["a"], Z, 2, [1], guidance=np.nan), "guidance = nan: must be in"),
        (lambda c: c.decode(["a"], Z, 2, [1], guidance=-1), "guidance = -1"),
        (
            lambda c: c.decode(["a"], Z[:, :, :16], 2, [1]),
            r"latent of shape \(1, 3, 16, 32\): must be \(1, 3, 32, 32\)",
        ),
        (lambda c: c.decode(["a", "a"], Z, 2, [1, 2]), r"latent of shape \(1, 3, 32, 32\): must be \(2, 3, 32, 32\)"),
        (lambda c: c.decode(["a"], Z.astype(float), 2, [1]), "latent of type float64: must be float32"),
        (lambda c: c.decode(["a"], Z + np.float32(np.inf), 2, [1]), "latent: must be finite"),
        (lambda c: c.generate(["a"], 1, 1, [1], wire="int4"), "wire = 'int4': must be one of 'float32'"),
        (lambda c: c.generate(["a"], 1, 0, [1]), "decode steps = 0"),
        (lambda c: c.costs("int4"), "wire = 'int4'"),
        (lambda c: c.prepare("all"), "stage = 'all'"),
        (lambda c: bridge.load(c.manifest.folder, threads=0), "threads = 0"),
        (lambda c: bridge.pack(Z, "int8"), "dtype = 'int8'"),
        (lambda c: bridge.pack(Z, "uint8"), "range = None: uint8 needs"),
        (lambda c: bridge.pack(Z, "uint8", (1, 1)), "must be .low, high. with low < high"),
        (lambda c: bridge.pack(Z + np.float32(np.nan), "float16"), "latent: must be finite"),
        (lambda c: bridge.pack(Z + np.float32(1e6), "float16"), "latent = 1e.06: must be at most 65504"),
        (lambda c: bridge.pack(Z.astype(float), "float32"), "latent of type float64"),
        (lambda c: bridge.unpack(Z.astype(np.int8)), "type of packed = 'int8'"),
        (lambda c: bridge.unpack(Z.astype(np.uint8)), "range = None"),
        (lambda c: bridge.shipped("nonsense"), "name = 'nonsense': must be one of"),
        (lambda c: bridge.shipped("../tests"), "name = '../tests'"),
    ],
)
def test_bad_input_is_named(cascade, call, text):
    with pytest.raises(ValueError, match=text):
        call(cascade)

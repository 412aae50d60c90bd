"""Metrics against the field's packages, closed forms, and the coverage of their intervals."""

import re
from pathlib import Path

import numpy as np
import pytest
from scipy import linalg, stats

from edgeinfer import quality

RNG = np.random.default_rng(4)
REAL = RNG.normal(size=(300, 12)) @ RNG.normal(size=(12, 12))
FAKE = RNG.normal(size=(260, 12)) @ RNG.normal(size=(12, 12)) + 0.4
IMAGES, TEXTS = RNG.normal(size=(40, 8)), RNG.normal(size=(40, 8)) + 0.3
LAYERS = [RNG.normal(size=(5, c, s, s)) for c, s in ((6, 8), (10, 4))]
OTHERS = [layer + 0.5 * RNG.normal(size=layer.shape) for layer in LAYERS]
WEIGHTS = [RNG.uniform(size=6), RNG.uniform(size=10)]
PICTURES = RNG.integers(0, 256, size=(6, 8, 8, 3))
NOISY = np.clip(PICTURES + RNG.integers(-20, 21, size=PICTURES.shape), 0, 255)
TOLERANCE = 1e-5


def reference(module):
    # A package whose own requirements are not met counts as absent.
    return pytest.importorskip(module, exc_type=ImportError)


@pytest.mark.filterwarnings("ignore")
def test_fid_equals_torchmetrics():
    torch, fid = reference("torch"), reference("torchmetrics.image.fid")
    extractor = torch.nn.Identity()
    extractor.num_features = REAL.shape[1]
    metric = fid.FrechetInceptionDistance(feature=extractor).set_dtype(torch.float64)
    for features, real in ((REAL, True), (FAKE, False)):
        metric.update(torch.tensor(features), real=real)
    assert quality.fid(REAL, FAKE, resamples=0).value == pytest.approx(float(metric.compute()), rel=TOLERANCE)


def test_fid_equals_torch_fidelity():
    module = reference("torch_fidelity.metric_fid")
    torch = reference("torch")
    statistics = [module.fid_features_to_statistics(torch.tensor(side)) for side in (REAL, FAKE)]
    value = module.fid_statistics_to_metric(*statistics, False)[module.KEY_METRIC_FID]
    assert quality.fid(REAL, FAKE, resamples=0).value == pytest.approx(value, rel=TOLERANCE)


def test_fid_equals_its_definition():
    a, b = (np.cov(side, rowvar=False) for side in (REAL, FAKE))
    shift = REAL.mean(axis=0) - FAKE.mean(axis=0)
    value = shift @ shift + np.trace(a + b - 2 * linalg.sqrtm(a @ b).real)
    assert quality.fid(REAL, FAKE, resamples=0).value == pytest.approx(value, rel=1e-9)


@pytest.mark.filterwarnings("ignore")
def test_kid_equals_torchmetrics():
    torch, kid = reference("torch"), reference("torchmetrics.image.kid")
    real, fake = REAL[:200], FAKE[:200]
    metric = kid.KernelInceptionDistance(feature=torch.nn.Identity(), subsets=3, subset_size=200)
    for features, is_real in ((real, True), (fake, False)):
        metric.update(torch.tensor(features), real=is_real)
    # A subset of all samples leaves nothing to chance.
    ours = quality.kid(real, fake, subsets=3, subset_size=200, resamples=0)
    assert ours.value == pytest.approx(float(metric.compute()[0]), rel=TOLERANCE)


def test_kid_equals_torch_fidelity():
    module = reference("torch_fidelity.metric_kid")
    torch = reference("torch")
    real, fake = torch.tensor(REAL[:200]), torch.tensor(FAKE[:200])
    theirs = module.kid_features_to_metric(real, fake, kid_subsets=2, kid_subset_size=200, verbose=False)
    ours = quality.kid(REAL[:200], FAKE[:200], subsets=2, subset_size=200, resamples=0)
    assert ours.value == pytest.approx(theirs[module.KEY_METRIC_KID_MEAN], rel=TOLERANCE)


def test_kid_equals_its_definition():
    def kernel(x, y):
        return (x @ y / len(x) + 1) ** 3

    real, fake = REAL[:20], FAKE[:15]
    xx = np.mean([kernel(a, b) for i, a in enumerate(real) for j, b in enumerate(real) if i != j])
    yy = np.mean([kernel(a, b) for i, a in enumerate(fake) for j, b in enumerate(fake) if i != j])
    xy = np.mean([kernel(a, b) for a in real for b in fake])
    assert quality.kid(real, fake, subsets=0, resamples=0).value == pytest.approx(xx + yy - 2 * xy, rel=1e-9)


def test_kid_of_subsets_goes_to_that_of_all():
    every = quality.kid(REAL, FAKE, subsets=0, rng=1)
    some = quality.kid(REAL, FAKE, subsets=400, subset_size=100, resamples=0, rng=2).value
    # Subsets of a third of the samples scatter more than all samples do; their mean over 400 does far less.
    assert abs(some - every.value) < (every.high - every.low) / 4


def test_clip_score_equals_torchmetrics():
    torch, functional = reference("torch"), reference("torchmetrics.functional.multimodal")

    class Model(torch.nn.Module):
        config = None

        def get_image_features(self, pixels):
            return pixels.reshape(len(pixels), -1)

        def get_text_features(self, ids, mask):
            return ids

    def processor(images=None, text=None, **options):
        if images is not None:
            return {"pixel_values": torch.stack(images)}
        rows = torch.tensor(np.array([TEXTS[int(t)] for t in text]))
        return {"input_ids": rows, "attention_mask": rows}

    pixels = torch.tensor(IMAGES.reshape(len(IMAGES), 2, 2, 2))
    texts = [str(i) for i in range(len(TEXTS))]
    theirs = functional.clip_score(list(pixels), texts, lambda: (Model(), processor))
    assert quality.clip_score(IMAGES, TEXTS, rng=1).value == pytest.approx(float(theirs), rel=TOLERANCE)
    opposite = functional.clip_score(list(pixels), texts, lambda: (Model(), lambda **o: negative(processor(**o))))
    assert float(opposite) == quality.clip_score(IMAGES, -TEXTS, rng=1).value == 0


def negative(processed):
    return {name: -value if name == "input_ids" else value for name, value in processed.items()}


def test_clip_score_clips_pairs_as_the_paper_says():
    scores = quality.clip_scores(IMAGES, TEXTS)
    assert (scores < 0).any()
    assert quality.clip_score(IMAGES, TEXTS, clip="pairs", rng=1).value == pytest.approx(np.maximum(scores, 0).mean())


def lpips_net(torch, module):
    """torchmetrics' own LPIPS on a small random network in place of one that it would have to download."""

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first = torch.nn.Conv2d(3, 6, 3, padding=1)
            self.second = torch.nn.Conv2d(6, 10, 3, stride=2)

        def forward(self, x):
            one = torch.relu(self.first(x))
            return one, torch.relu(self.second(one))

    class Small(module._LPIPS):
        def __init__(self):
            torch.nn.Module.__init__(self)
            self.spatial, self.resize, self.L = False, None, 2
            self.scaling_layer, self.net = module.ScalingLayer(), Net()
            self.lins = torch.nn.ModuleList([module.NetLinLayer(c) for c in (6, 10)])
            for lin, weights in zip(self.lins, WEIGHTS, strict=True):
                lin.model[0].weight.data = torch.tensor(weights)[None, :, None, None]

    torch.manual_seed(1)
    return Small().double().eval()


def test_lpips_equals_torchmetrics():
    torch, module = reference("torch"), reference("torchmetrics.functional.image.lpips")
    net = lpips_net(torch, module)
    one, two = (torch.tensor(RNG.uniform(-1, 1, size=(4, 3, 16, 16))) for _ in range(2))
    with torch.no_grad():
        theirs = net(one, two).reshape(-1).numpy()
        layers = [[f.numpy() for f in net.net(net.scaling_layer(x))] for x in (one, two)]
    np.testing.assert_allclose(quality.lpips_scores(*layers, WEIGHTS), theirs, rtol=TOLERANCE)
    assert quality.lpips(*layers, WEIGHTS, rng=1).value == pytest.approx(theirs.mean(), rel=TOLERANCE)


def test_lpips_equals_the_lpips_package():
    torch, package = reference("torch"), reference("lpips")
    total = 0
    for one, other, weights in zip(LAYERS, OTHERS, WEIGHTS, strict=True):
        units = [package.normalize_tensor(torch.tensor(x)) for x in (one, other)]
        lin = torch.tensor(weights)[None, :, None, None]
        total = total + package.spatial_average(((units[0] - units[1]) ** 2 * lin).sum(dim=1, keepdim=True))
    ours = quality.lpips_scores(LAYERS, OTHERS, WEIGHTS, epsilon=1e-10, inside=False)
    np.testing.assert_allclose(ours, total.numpy().reshape(-1), rtol=TOLERANCE)


@pytest.mark.parametrize(("epsilon", "inside"), [(1e-8, True), (1e-10, False), (0.1, True), (0.1, False)])
def test_lpips_equals_its_definition(epsilon, inside):
    expected = np.zeros(5)
    for one, other, weights in zip(LAYERS, OTHERS, WEIGHTS, strict=True):
        height, width = one.shape[2:]
        for n in range(5):
            for h in range(height):
                for w in range(width):
                    a, b = one[n, :, h, w], other[n, :, h, w]
                    if inside:
                        a, b = a / np.sqrt(a @ a + epsilon), b / np.sqrt(b @ b + epsilon)
                    else:
                        a, b = a / (np.sqrt(a @ a) + epsilon), b / (np.sqrt(b @ b) + epsilon)
                    expected[n] += weights @ (a - b) ** 2 / (height * width)
    ours = quality.lpips_scores(LAYERS, OTHERS, WEIGHTS, epsilon=epsilon, inside=inside)
    np.testing.assert_allclose(ours, expected, rtol=1e-12)


def test_psnr_equals_torchmetrics():
    torch, functional = reference("torch"), reference("torchmetrics.functional.image")
    theirs = functional.peak_signal_noise_ratio(
        torch.tensor(NOISY, dtype=torch.float64),
        torch.tensor(PICTURES, dtype=torch.float64),
        data_range=(0.0, 255.0),
        dim=(1, 2, 3),
    )
    assert quality.psnr(NOISY, PICTURES, rng=1).value == pytest.approx(float(theirs), rel=TOLERANCE)


def test_psnr_by_hand():
    # An error of 51 at every place: 20 log10(255 / 51) = 20 log10 5.
    np.testing.assert_allclose(quality.psnr_scores([[0.0, 51.0]], [[51.0, 0.0]]), 20 * np.log10(5), rtol=1e-12)
    assert quality.psnr_scores([[1.0]], [[1.0]])[0] == np.inf


def test_attribute_accuracy_by_hand():
    logits = {"shape": np.eye(4), "colour": np.eye(4)[[1, 1, 1, 1]]}
    right = quality.attributes_right(logits, {"shape": [0, 1, 2, 0], "colour": [1, 0, -1, 1]})
    np.testing.assert_array_equal(right, [True, False, True, False])
    assert quality.attribute_accuracy(logits, {"shape": [0, 1, 2, 0]}, rng=1).value == 0.75


def covered(make, truth, runs):
    hits = sum(bool(e.low <= truth <= e.high) for e in (make(np.random.default_rng(seed)) for seed in range(runs)))
    return hits, runs


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fid", "biased fid", "kid", "clip", "grouped"])
def test_intervals_cover(kind):
    def gaussians(rng):
        return rng.normal(size=(400, 3)), 1.3 * rng.normal(size=(400, 3)) + 0.5

    def fid(rng):
        return quality.fid(*gaussians(rng), bias="remove", resamples=200, rng=rng)

    def biased_fid(rng):
        return quality.fid(rng.normal(size=(60, 5)), rng.normal(size=(60, 5)) + 0.5, resamples=200, rng=rng)

    def kid(rng):
        return quality.kid(*gaussians(rng), subsets=0, resamples=200, rng=rng)

    def clip(rng):
        angles = rng.uniform(0, 1, size=200)
        images = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        return quality.clip_score(images, np.broadcast_to([1.0, 0.0], (200, 2)), resamples=200, rng=rng)

    def grouped(rng):
        # 60 captions of 4 images: the caption's own part is shared, so that 240 single images would be overconfident.
        noise = np.repeat(rng.normal(size=60), 4) + 0.3 * rng.normal(size=240)
        return quality.attribute_accuracy(
            {"a": np.stack([noise, 0 * noise], axis=1)},
            {"a": np.zeros(240, int)},
            groups=np.repeat(np.arange(60), 4),
            resamples=200,
            rng=rng,
        )

    # Moments of x.y for independent Gaussians give E (x.y / 3 + 1)^3 for the truth of KID: x' = 1.3 x + 0.5.
    def third(scale_x, mean_x, scale_y, mean_y):
        inner = 3 * mean_x * mean_y
        square = 3 * ((scale_x**2 + mean_x**2) * (scale_y**2 + mean_y**2) - (mean_x * mean_y) ** 2) + inner**2
        per = (scale_x**2 + mean_x**2) * (scale_y**2 + mean_y**2)
        cube_x, cube_y = mean_x**3 + 3 * mean_x * scale_x**2, mean_y**3 + 3 * mean_y * scale_y**2
        one = mean_x * mean_y
        cube = 3 * cube_x * cube_y + 3 * 3 * 2 * per * one + 6 * one**3
        return cube / 27 + square / 3 + inner + 1

    truth = {
        "fid": 3 * (0.5**2 + 0.3**2),
        # The mean of 60 samples' distance, well above that of the distributions, 1.25.
        "biased fid": np.mean(
            [
                quality.fid(RNG.normal(size=(60, 5)), RNG.normal(size=(60, 5)) + 0.5, resamples=0).value
                for _ in range(2000)
            ]
        ),
        "kid": third(1, 0, 1, 0) + third(1.3, 0.5, 1.3, 0.5) - 2 * third(1, 0, 1.3, 0.5),
        "clip": 100 * np.sin(1),
        "grouped": 0.5,
    }[kind]
    hits, runs = covered(
        {"fid": fid, "biased fid": biased_fid, "kid": kid, "clip": clip, "grouped": grouped}[kind], truth, 200
    )
    # 200 replicates and moderate samples cost a little: at a coverage of 0.92, fewer hits have probability 1e-5.
    assert hits >= stats.binom.ppf(1e-5, runs, 0.92)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: quality.fid(REAL[:12], FAKE), "real: 12 samples of 12 features"),
        (lambda: quality.fid(REAL[:1], FAKE), "real: 1 samples"),
        (lambda: quality.fid(REAL, np.hstack([FAKE[:, :-1], FAKE[:, :1]])), "generated: covariance of rank 11"),
        (lambda: quality.fid(REAL, FAKE[:, :3]), "12 features, generated: 3"),
        (lambda: quality.fid(REAL, np.where(FAKE > 5, np.nan, FAKE)), "generated.*is not finite"),
        (lambda: quality.fid(REAL.ravel(), FAKE), "real of shape"),
        (lambda: quality.fid(REAL, FAKE, confidence=1.0), "confidence"),
        (lambda: quality.fid(REAL, FAKE, resamples=-1), "resamples"),
        (lambda: quality.fid(REAL, FAKE, groups=(np.arange(3), np.arange(260))), "groups of shapes"),
        (lambda: quality.fid(REAL, FAKE, groups=(np.zeros(300), np.zeros(260))), "at least 2 labels"),
        (lambda: quality.fid(REAL, FAKE, singular="x"), "singular = 'x'"),
        (lambda: quality.fid(REAL, FAKE, bias="x"), "bias = 'x'"),
        (lambda: quality.fid(REAL, FAKE, bias="remove", resamples=0), "resamples = 0"),
        (lambda: quality.kid(REAL, FAKE), "real: 300 samples: must be at least subset_size = 1000"),
        (lambda: quality.kid(REAL, np.full((9, 12), np.inf), subset_size=5), "generated.*not finite"),
        (lambda: quality.clip_score(IMAGES, TEXTS[:3]), "40 rows, text_embeddings: 3"),
        (lambda: quality.clip_score(IMAGES * 0, TEXTS), r"image_embeddings\[0\] is zero"),
        (lambda: quality.clip_score(IMAGES, TEXTS, groups=np.zeros(40)), "1 independent units"),
        (lambda: quality.clip_score(IMAGES, TEXTS, clip="no"), "clip = 'no'"),
        (lambda: quality.lpips(LAYERS, OTHERS[:1]), "2 layers, references: 1"),
        (lambda: quality.lpips(LAYERS, OTHERS[::-1]), r"features\[0\] of shape"),
        (lambda: quality.lpips(LAYERS, OTHERS, WEIGHTS[::-1]), r"weights\[0\] of shape"),
        (lambda: quality.lpips([LAYERS[0][0]], [OTHERS[0][0]]), r"features\[0\] of shape"),
        (lambda: quality.lpips(LAYERS, OTHERS, epsilon=0.0), "epsilon"),
        (lambda: quality.psnr(NOISY, PICTURES[:2]), "images of shape"),
        (lambda: quality.psnr(PICTURES, PICTURES), r"images\[0\] equals its reference"),
        (lambda: quality.attribute_accuracy({"a": IMAGES}, {"b": [0] * 40}), "'b' must be one of 'a'"),
        (lambda: quality.attribute_accuracy({"a": IMAGES}, {"a": [8] * 40}), r"whole numbers in \[-1, 7\]"),
        (lambda: quality.attribute_accuracy({"a": IMAGES}, {"a": [0]}), "must be \\(n, classes\\)"),
        (lambda: quality.attribute_accuracy({"a": IMAGES}, {}), "at least one head"),
    ],
)
def test_bad_input(call, text):
    with pytest.raises(ValueError, match=text):
        call()


def test_singular_covariances_are_exact_where_allowed():
    flat = np.hstack([REAL[:, :2], np.zeros((300, 1))])
    other = np.hstack([FAKE[:, :2], np.ones((260, 1))])
    full = quality.fid(REAL[:, :2], FAKE[:, :2], resamples=0).value
    assert quality.fid(flat, other, singular="allow", resamples=0).value == pytest.approx(full + 1, rel=1e-9)


def test_equal_seeds_give_equal_intervals():
    one, two, three = (quality.fid(REAL, FAKE, resamples=50, rng=seed) for seed in (1, 1, 2))
    assert one == two != three


@pytest.mark.filterwarnings("ignore")
def test_the_site_says_what_torchmetrics_gives(capsys):
    reference("torchmetrics.image.fid")
    page = (Path(__file__).parents[2] / "docs" / "coming_from.md").read_text().split("## torchmetrics")[1]
    code, said = re.search(r"```python\n(.*?)```\n\n```text\n(.*?)```", page, re.DOTALL).groups()
    exec(code, {})
    assert capsys.readouterr().out == said

"""Stepping against diffusers where it is installed, and against closed forms everywhere."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeinfer.bridge import Scheduler, advance

CONFIGS = [
    {"beta_schedule": schedule, "prediction_type": prediction, "timestep_spacing": spacing, "clip_sample": clip}
    for schedule, prediction, spacing, clip in itertools.product(
        ("linear", "scaled_linear", "squaredcos_cap_v2"),
        ("epsilon", "v_prediction", "sample"),
        ("leading", "trailing", "linspace"),
        (False, True),
    )
]
COUNTS = (1, 2, 3, 7, 8, 16, 25, 50, 333, 1000)


def run(step, sample, output, noise=None):
    x = sample.astype(np.float32)
    z = None if noise is None else noise.astype(np.float32)
    advance(step, x, output.astype(np.float32), np.empty_like(x), z)
    return x


def some_steps(steps):
    """The first, the last and some between: a thousand in each of 54 configurations would add time, not coverage."""
    return sorted({0, 1, len(steps) // 3, len(steps) // 2, len(steps) - 2, len(steps) - 1} & set(range(len(steps))))


@pytest.fixture(scope="module")
def diffusers():
    pytest.importorskip("torch")
    return pytest.importorskip("diffusers")


def precise(reference):
    """The reference with its own table, but float64 arithmetic: 1 - product in float32 loses up to four digits."""
    reference.alphas_cumprod = reference.alphas_cumprod.double()
    for name in ("one", "final_alpha_cumprod"):
        if hasattr(reference, name):
            setattr(reference, name, getattr(reference, name).double())
    return reference


@pytest.mark.parametrize("schedule", ["linear", "scaled_linear", "squaredcos_cap_v2"])
def test_tables_equal_diffusers(diffusers, schedule):
    theirs = diffusers.DDPMScheduler(beta_schedule=schedule).alphas_cumprod.numpy().astype(float)
    ours = Scheduler(beta_schedule=schedule).alphas_cumprod
    # A unit in the last place of beta is 6e-8 relative, at most 1e-9 absolute; a thousand of them make 1e-6.
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    np.testing.assert_allclose(1 - ours, 1 - theirs, rtol=1e-6)


@pytest.mark.parametrize("corrected", [False, True])
@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: "-".join(map(str, c.values())))
def test_ddim_equals_diffusers(diffusers, config, corrected):
    import torch

    reference = precise(diffusers.DDIMScheduler(**config))
    ours = Scheduler.from_config(dict(reference.config) | {"use_clipped_model_output": corrected})
    rng = np.random.default_rng(1)
    sample, output = rng.standard_normal((2, 2, 3, 4, 4)).astype(np.float32)
    for count in COUNTS:
        reference.set_timesteps(count)
        steps = ours.steps(count, "ddim")
        assert [step.timestep for step in steps] == reference.timesteps.tolist()
        for i in some_steps(steps):
            u, x = torch.tensor(output).double(), torch.tensor(sample).double()
            answer = reference.step(u, steps[i].timestep, x, use_clipped_model_output=corrected)
            close(run(steps[i], sample, output), answer, steps[i])


@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
@pytest.mark.parametrize("config", CONFIGS[::2], ids=lambda c: "-".join(map(str, c.values())))
def test_ddpm_equals_diffusers(diffusers, config, variance):
    import torch

    reference = precise(diffusers.DDPMScheduler(**config, variance_type=variance))
    ours = Scheduler.from_config(dict(reference.config))
    rng = np.random.default_rng(2)
    sample, output = rng.standard_normal((2, 2, 3, 4, 4)).astype(np.float32)
    for count in COUNTS:
        reference.set_timesteps(count)
        steps = ours.steps(count, "ddpm")
        assert [step.timestep for step in steps] == reference.timesteps.tolist()
        for i in some_steps(steps):
            seed = torch.Generator().manual_seed(i)
            noise = torch.randn(sample.shape, generator=seed, dtype=torch.float64).numpy()
            u, x = torch.tensor(output).double(), torch.tensor(sample).double()
            answer = reference.step(u, steps[i].timestep, x, generator=torch.Generator().manual_seed(i))
            close(run(steps[i], sample, output, noise), answer, steps[i])


def close(ours, answer, step):
    # Recovering x0 from epsilon divides by sqrt(product), up to 2e4: without the clip, relative to those numbers.
    size = max(1, abs(step.clean) * max(abs(step.p), abs(step.q)) if step.clip is None else 0)
    np.testing.assert_allclose(ours, answer.prev_sample.numpy(), rtol=0, atol=1e-5 * size)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_whole_paths_equal_diffusers(diffusers, prediction):
    """A path of many steps with a network that depends on sample and time: errors of each step add up."""
    import torch

    config = {
        "beta_schedule": "squaredcos_cap_v2",
        "prediction_type": prediction,
        "timestep_spacing": "trailing",
        "clip_sample": True,
    }
    start = np.random.default_rng(3).standard_normal((1, 3, 8, 8)).astype(np.float32)
    for kind, sampler in (("DDIMScheduler", "ddim"), ("DDPMScheduler", "ddpm")):
        reference = getattr(diffusers, kind)(**config)
        for count in (1, 4, 16, 100):
            reference.set_timesteps(count)
            x, y = start.copy(), torch.tensor(start)
            seed, twin = torch.Generator().manual_seed(0), torch.Generator().manual_seed(0)
            for step in Scheduler.from_config(config).steps(count, sampler):
                noise = torch.randn(start.shape, generator=twin).numpy() if step.timestep > 0 else None
                time = step.timestep / 1000
                advance(step, x, (0.5 * np.tanh(x) + 0.1 * time).astype(np.float32), np.empty_like(x), noise)
                output = (0.5 * torch.tanh(y) + 0.1 * time).to(torch.float32)
                extra = {"generator": seed} if sampler == "ddpm" else {}
                y = reference.step(output, step.timestep, y, **extra).prev_sample
            # Per step 1e-7 or so; at t = 999 epsilon and sample divide by sqrt(product) = 5e-5 before the clip.
            np.testing.assert_allclose(x, y.numpy(), rtol=0, atol=1e-5 * max(1, count / 10))


@pytest.mark.parametrize("schedule", ["linear", "scaled_linear", "squaredcos_cap_v2"])
def test_ddpm_is_equation_1(schedule):
    """Every training step, without clipping, is (1) of the paper, computed here from alpha and its product."""
    scheduler = Scheduler(beta_schedule=schedule, clip_sample=False, num_train_timesteps=50)
    product = scheduler.alphas_cumprod
    rng = np.random.default_rng(4)
    z, epsilon, r = rng.standard_normal((3, 5))
    for step in scheduler.steps(50, "ddpm"):
        i = step.timestep
        alpha = product[i] / (product[i - 1] if i else 1.0)
        gamma = np.sqrt((1 - product[i - 1]) / (1 - product[i]) * (1 - alpha)) if i else 0.0
        wanted = (z - (1 - alpha) / np.sqrt(1 - product[i]) * epsilon) / np.sqrt(alpha) + gamma * r
        # float32 arithmetic: three roundings of numbers as large as z / sqrt(product).
        atol = 3 * 2**-23 * 4 / np.sqrt(product[i])
        np.testing.assert_allclose(run(step, z, epsilon, r), wanted, rtol=0, atol=atol)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("count", [1, 2, 5, 40, 999])
def test_a_perfect_network_is_inverted(prediction, count):
    """If the network knows x0, DDIM ends at x0 from any noise, in any number of steps."""
    scheduler = Scheduler(
        beta_schedule="squaredcos_cap_v2", prediction_type=prediction, timestep_spacing="trailing", clip_sample=False
    )
    rng = np.random.default_rng(5)
    clean, noise = rng.uniform(-1, 1, 6), rng.standard_normal(6)
    product = scheduler.alphas_cumprod
    steps = scheduler.steps(count)
    first = product[steps[0].timestep]
    x = (np.sqrt(first) * clean + np.sqrt(1 - first) * noise).astype(np.float32)
    for step in steps:
        signal, rest = np.sqrt(product[step.timestep]), np.sqrt(1 - product[step.timestep])
        epsilon = (x - signal * clean) / rest
        output = {"epsilon": epsilon, "sample": clean, "v_prediction": signal * epsilon - rest * clean}[prediction]
        x = run(step, x, output)
    # The last time step leaves 1 - product of noise only where T is no multiple of the count; then product[t] is ~ 1.
    last = steps[-1].timestep - 1000 // count
    left = np.sqrt(1 - product[last]) if last >= 0 else 0.0
    # Epsilon's x0 at t = 999 is a difference of numbers 2e4 times larger, in float32.
    blur = 4 * 2**-23 / np.sqrt(first) if prediction == "epsilon" and count == 1 else 1e-5
    np.testing.assert_allclose(x, clean, rtol=0, atol=4 * left + max(blur, 1e-5))


def test_noise_of_the_right_size():
    """DDPM over a network that says x0 = 0 keeps the variance of q: 1 - product at each step, within its error."""
    scheduler = Scheduler(beta_schedule="squaredcos_cap_v2", prediction_type="sample", timestep_spacing="trailing")
    rng = np.random.default_rng(6)
    count = 200_000
    x = rng.standard_normal(count).astype(np.float32)
    steps = scheduler.steps(10, "ddpm")
    for step, following in itertools.pairwise(steps):
        x = run(step, x, np.zeros(count), rng.standard_normal(count))
        wanted = 1 - scheduler.alphas_cumprod[following.timestep]
        # Standard error of a variance of n normals: sqrt(2 / n); 5 of them in 9 checks: false alarm < 6e-6.
        assert abs(x.var() / wanted - 1) < 5 * np.sqrt(2 / count)


def test_options_of_stable_diffusion():
    offset = Scheduler(steps_offset=1)
    assert [s.timestep for s in offset.steps(4)] == [751, 501, 251, 1]
    first = Scheduler(set_alpha_to_one=False, prediction_type="sample", clip_sample=False)
    step = first.steps(1000)[-1]
    assert step.clean == pytest.approx(np.sqrt(first.alphas_cumprod[0]))


def test_step_is_in_place():
    step = Scheduler().steps(4)[1]
    x, u, s = np.ones((3, 8, 8), np.float32), np.ones((3, 8, 8), np.float32), np.empty((3, 8, 8), np.float32)
    kept = x
    assert advance(step, x, u, s) is None and kept is x and not np.array_equal(x, np.ones_like(x))
    with pytest.raises(ValueError, match="needs noise"):
        advance(Scheduler().steps(4, "ddpm")[0], x, u, s)


@settings(max_examples=100, deadline=None)
@given(count=st.integers(1, 1000), spacing=st.sampled_from(["leading", "trailing", "linspace"]))
def test_time_steps(count, spacing):
    times = Scheduler(timestep_spacing=spacing).timesteps(count)
    assert times.shape == (count,) and times.min() >= 0 and times.max() <= 999
    assert count == 1 or (np.diff(times) < 0).all()
    if spacing == "trailing":
        assert times[0] == 999


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: Scheduler().steps(0), "steps = 0: must be a whole number >= 1"),
        (lambda: Scheduler().steps(1001), "steps = 1001: must be at most 1000"),
        (lambda: Scheduler().steps(2.5), "steps = 2.5"),
        (lambda: Scheduler().steps(float("nan")), "steps = nan"),
        (lambda: Scheduler().steps(4, "euler"), "sampler = 'euler': must be one of 'ddim', 'ddpm'"),
        (lambda: Scheduler(steps_offset=5).steps(1000), "steps_offset = 5"),
        (lambda: Scheduler(num_train_timesteps=0), "num_train_timesteps = 0"),
        (lambda: Scheduler(beta_start=0.0), r"beta_start = 0: must be in \(0, 1\)"),
        (lambda: Scheduler(beta_schedule="cubic"), "beta_schedule = 'cubic'"),
        (lambda: Scheduler(prediction_type="flow"), "prediction_type = 'flow'"),
        (lambda: Scheduler(timestep_spacing="even"), "timestep_spacing = 'even'"),
        (lambda: Scheduler(variance_type="learned"), "variance_type = 'learned'"),
        (lambda: Scheduler(clip_sample_range=0.0), "clip_sample_range = 0"),
        (lambda: Scheduler(init_noise_sigma=1.5), r"init_noise_sigma = 1.5: must be in \(0, 1\]"),
        (lambda: Scheduler.from_config({"thresholding": True}), "thresholding = True: must be off"),
        (lambda: Scheduler.from_config({"trained_betas": [0.1]}), "trained_betas"),
    ],
)
def test_bad_input_is_named(build, text):
    with pytest.raises(ValueError, match=text):
        build()

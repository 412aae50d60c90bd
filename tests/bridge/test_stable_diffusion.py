"""A folder as Optimum exports Stable Diffusion, tiny and random, against diffusers' own pipeline."""

import json
import shutil
import warnings

import numpy as np
import pytest

from bridge import tiny
from edgeinfer import bridge

pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("transformers")

LENGTH, CAPTIONS, SEEDS, STEPS = 12, ["a red circle", "Low tower, 12 stones!"], [3, 4], 5


def vocabulary(folder):
    """CLIP's files: an alphabet of bytes and a few merges, so that words of several pieces occur."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tokenizers import pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = ["r e", "re d</w>", "c i", "l o", "lo w</w>", "o w"]
    tokens = letters + [letter + "</w>" for letter in letters] + [merge.replace(" ", "") for merge in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    tiny.write_json(folder / "vocab.json", {token: i for i, token in enumerate(tokens)})
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    config = {"model_max_length": LENGTH, "pad_token": "<|endoftext|>", "tokenizer_class": "CLIPTokenizer"}
    tiny.write_json(folder / "tokenizer_config.json", config)
    return len(tokens)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    """diffusers' pipeline of random networks, and the folder of its ONNX files."""
    import torch

    folder = tmp_path_factory.mktemp("stable") / "diffusion"
    words = vocabulary(folder / "tokenizer")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
        from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

        torch.manual_seed(0)
        text = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=words,
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                max_position_embeddings=LENGTH,
                bos_token_id=words - 2,
                eos_token_id=words - 1,
                pad_token_id=words - 1,
            )
        )
        unet = UNet2DConditionModel(
            sample_size=8,
            in_channels=4,
            out_channels=4,
            block_out_channels=(8, 16),
            layers_per_block=1,
            norm_num_groups=4,
            attention_head_dim=2,
            cross_attention_dim=16,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        )
        vae = AutoencoderKL(
            block_out_channels=(8, 8),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            norm_num_groups=4,
            latent_channels=4,
            sample_size=16,
            scaling_factor=0.5,
        )
        scheduler = DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
        )
        tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
        reference = StableDiffusionPipeline(
            vae=vae,
            text_encoder=text,
            tokenizer=tokenizer,
            unet=unet,
            scheduler=scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        reference.set_progress_bar_config(disable=True)
        export(reference, folder)
    return reference, folder


def export(reference, folder):
    """What Optimum writes: names of ports, files and axes are its own."""
    import torch

    class Encoder(torch.nn.Module):
        def forward(self, input_ids):
            answer = reference.text_encoder(input_ids)
            return answer.last_hidden_state, answer.pooler_output

    class Denoiser(torch.nn.Module):
        def forward(self, sample, timestep, encoder_hidden_states):
            return reference.unet(sample, timestep, encoder_hidden_states).sample

    class Decoder(torch.nn.Module):
        def forward(self, latent_sample):
            return reference.vae.decode(latent_sample).sample

    batch, sides = {0: "batch_size"}, {0: "batch_size", 2: "height", 3: "width"}
    parts = {
        "text_encoder": (
            Encoder,
            reference.text_encoder,
            {"input_ids": torch.zeros(2, LENGTH, dtype=torch.int64)},
            {"input_ids": batch, "last_hidden_state": batch, "pooler_output": batch},
        ),
        "unet": (
            Denoiser,
            reference.unet,
            {
                "sample": torch.randn(2, 4, 8, 8),
                "timestep": torch.tensor([1]),
                "encoder_hidden_states": torch.randn(2, LENGTH, 16),
            },
            {"sample": sides, "timestep": {0: "steps"}, "encoder_hidden_states": batch, "out_sample": sides},
        ),
        "vae_decoder": (
            Decoder,
            reference.vae,
            {"latent_sample": torch.randn(2, 4, 8, 8)},
            {"latent_sample": sides, "sample": sides},
        ),
    }
    for name, (wrapper, network, inputs, axes) in parts.items():
        module = wrapper()
        module.network = network
        (folder / name).mkdir(parents=True)
        torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            folder / name / "model.onnx",
            input_names=list(inputs),
            output_names=[port for port in axes if port not in inputs],
            dynamic_axes=axes,
            opset_version=17,
            dynamo=False,
        )
        config = network.config
        text = config.to_json_string() if hasattr(config, "to_json_string") else json.dumps(dict(config))
        (folder / name / "config.json").write_text(text)
    reference.scheduler.save_pretrained(folder / "scheduler")
    index = {name: ["diffusers", "OnnxRuntimeModel"] for name in parts}
    index |= {"scheduler": ["diffusers", "DDIMScheduler"], "tokenizer": ["transformers", "CLIPTokenizer"]}
    tiny.write_json(folder / "model_index.json", index | {"_class_name": "StableDiffusionPipeline"})


@pytest.fixture(scope="module")
def cascade(pipeline):
    return bridge.load(pipeline[1], threads=1)


def test_what_is_read(cascade):
    m = cascade.manifest
    assert m.name == "StableDiffusionPipeline" and m.sampler == "ddim" and m.flops is None
    assert dict(m.prior.networks[0].ports) == {
        "sample": "sample",
        "timestep": "timestep",
        "context": "encoder_hidden_states",
    }
    assert m.prior.guidance == 7.5 and m.prior.guided and not m.decode.guided and not m.decode.iterative
    assert m.wire.shape == (4, 8, 8) and dict(m.wire.bits) == {"float32": 8192, "float16": 4096}
    assert m.image.shape == (3, 16, 16) and m.decode.networks[0].scale == 2.0
    assert m.scheduler.steps_offset == 1 and not m.scheduler.set_alpha_to_one


def test_tokens_equal_transformers(cascade, pipeline):
    captions = [*CAPTIONS, "", "  Two   SPACES don't matter ", "ünïcode — 2 stones", "red " * 30]
    options = {"padding": "max_length", "max_length": LENGTH, "truncation": True, "return_tensors": "np"}
    np.testing.assert_array_equal(cascade.tokens(captions), pipeline[0].tokenizer(captions, **options).input_ids)


def test_one_file_of_the_library_is_enough(pipeline, tmp_path):
    folder = shutil.copytree(pipeline[1], tmp_path / "model")
    shutil.rmtree(folder / "tokenizer")
    pipeline[0].tokenizer.save_pretrained(folder / "tokenizer")
    (folder / "tokenizer" / "vocab.json").unlink(missing_ok=True)
    assert (folder / "tokenizer" / "tokenizer.json").exists()
    again = bridge.load(folder, threads=1)
    np.testing.assert_array_equal(again.tokens(CAPTIONS), bridge.load(pipeline[1]).tokens(CAPTIONS))
    (folder / "tokenizer" / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=r"tokenizer/tokenizer\.json: "):
        bridge.load(folder)


def start():
    """The noise that both begin with."""
    rngs = [np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0, 0))) for seed in SEEDS]
    return np.stack([rng.standard_normal((4, 8, 8), np.float32) for rng in rngs])


@pytest.mark.parametrize("guidance", [1.0, 7.5])
def test_latents_and_images_equal_diffusers(cascade, pipeline, guidance):
    import torch

    reference = pipeline[0]
    options = {"num_inference_steps": STEPS, "guidance_scale": guidance, "latents": torch.tensor(start())}
    with torch.no_grad():
        wanted = reference(CAPTIONS, output_type="latent", **options).images.numpy()
        image = reference(CAPTIONS, output_type="np", **options).images
    latent = cascade.prior(CAPTIONS, STEPS, SEEDS, guidance=guidance)
    # Exported and original network differ by the order of float32 sums, 1e-6 for outputs of about 1. Guidance takes
    # that up to 2 guidance times, and the path divides by sqrt(0.004) = 1/16, the signal's share at the first step.
    np.testing.assert_allclose(latent, wanted, rtol=0, atol=1e-6 * 2 * guidance * 16)
    assert np.abs(latent - start()).max() > 0.1
    decoded = cascade.decode(CAPTIONS, latent, 1, SEEDS)
    assert decoded.shape == (2, 16, 16, 3)
    # Half a level by rounding, and the latents' difference, 1e-4, times 127 levels.
    assert np.abs(decoded.astype(float) - 255 * image).max() <= 0.52
    whole = cascade.generate(CAPTIONS, STEPS, 1, SEEDS, guidance=guidance)
    np.testing.assert_array_equal(whole, decoded)


def test_costs_are_counted(cascade):
    costs = cascade.costs()
    assert costs.feature == 0 and costs.prior_step == 2 * cascade.costs(guidance=1).prior_step > 0
    assert costs.encoder == 2 * cascade.costs(guidance=1).encoder > 0
    assert (costs.latent_bits, cascade.costs("float16").latent_bits) == (8192, 4096)


def test_counted_flops_equal_torch(cascade, pipeline):
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    reference, _ = pipeline
    # torch counts no fused attention on the CPU, so attention runs as two products of matrices.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        reference.vae.decode(torch.zeros(1, 4, 8, 8))
    assert cascade.count_flops().decode_step == counter.get_total_flops()
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        reference.unet(torch.zeros(1, 4, 8, 8), 1, torch.zeros(1, LENGTH, 16))
    assert cascade.count_flops().prior_step == counter.get_total_flops()


def test_profile(cascade):
    p = bridge.profile(cascade, 2, 1, repetitions=2, warmup=1)
    assert set(p.passes) == {"text_encoder", "unet", "vae_decoder"} and p.provenance["wire"] == "float32"


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda c: c.decode(["a"], np.zeros((1, 4, 8, 8), np.float32), 2, [1]), "decode steps = 2: must be 1"),
        (lambda c: c.generate(["a"], 1, 1, [1], wire="uint8"), "wire = 'uint8': must be one of 'float32', 'float16'"),
    ],
)
def test_bad_input_is_named(cascade, call, text):
    with pytest.raises(ValueError, match=text):
        call(cascade)


@pytest.mark.parametrize(
    ("file", "change", "text"),
    [
        ("model_index.json", {"unet": ...}, r"model_index.json: unet = \(missing\)"),
        ("unet/config.json", {"sample_size": None}, "unet/config.json: sample_size = None"),
        ("unet/config.json", {"in_channels": 3}, "unet/model.onnx: shape of 'sample' = .free, 4, free, free.: must be"),
        ("vae_decoder/config.json", {"scaling_factor": 0}, "vae_decoder/config.json: scaling_factor = 0"),
        ("vae_decoder/config.json", {"block_out_channels": []}, "block_out_channels = .*: must be a list"),
        (
            "scheduler/scheduler_config.json",
            {"rescale_betas_zero_snr": True},
            "rescale_betas_zero_snr = True: must be off",
        ),
        ("tokenizer/tokenizer_config.json", {"pad_token": "<none>"}, "pad_token = '<none>': must be in the vocabulary"),
    ],
)
def test_folders_that_lie(pipeline, tmp_path, file, change, text):
    folder = shutil.copytree(pipeline[1], tmp_path / "model")
    data = json.loads((folder / file).read_text()) | change
    tiny.write_json(folder / file, {key: value for key, value in data.items() if value is not ...})
    with pytest.raises(ValueError, match=text):
        bridge.load(folder)


@pytest.mark.parametrize("name", ["tokenizer/merges.txt", "vae_decoder/model.onnx", "unet/config.json"])
def test_missing_files(pipeline, tmp_path, name):
    folder = shutil.copytree(pipeline[1], tmp_path / "model")
    (folder / name).unlink()
    with pytest.raises(ValueError, match=f"{name}.*missing|missing.*{name}"):
        bridge.load(folder)

"""A cascade folder with tiny random networks, made with onnx.helper alone: valid, deterministic, and fast to run."""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WORDS = "a the small large red green blue circle square triangle above below left of on grey".split()
LENGTH = 16
WIDTH = 8
CAPTIONS = ["a red circle above a small blue square", "a large green triangle", "the blue circle on grey"]
_FLOAT, _INT64 = TensorProto.FLOAT, TensorProto.INT64
_OPSET = 17
_HEADS = {"shape": ["circle", "square", "triangle"], "colour": ["red", "green", "blue"], "place": ["left", "right"]}


class _Graph:
    """Nodes and random weights on their way to a model."""

    def __init__(self, rng):
        self.rng, self.nodes, self.weights = rng, [], []

    def add(self, op, *inputs, output=None, **attributes):
        output = output or f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [output], name=f"node_{len(self.nodes)}", **attributes))
        return output

    def constant(self, value, dtype=None):
        name = f"weight_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def random(self, *shape, scale):
        return self.constant((scale * self.rng.standard_normal(shape)).astype(np.float32))

    def conv(self, x, source, target, size=3, stride=1, gain=1.0):
        scale = gain * (source * size * size) ** -0.5
        weight = self.random(target, source, size, size, scale=scale)
        edge = size // 2 if stride == 1 else 0
        return self.add("Conv", x, weight, pads=[edge] * 4, strides=[stride] * 2)

    def model(self, inputs, outputs):
        graph = helper.make_graph(
            self.nodes,
            "tiny",
            [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in inputs],
            [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in outputs],
            self.weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], producer_name="tiny")
        model.ir_version = 8
        onnx.checker.check_model(model)
        return model


def text_encoder(seed=0, output="last_hidden_state"):
    """input_ids (B, L) -> last_hidden_state (B, L, d)."""
    g = _Graph(np.random.default_rng([seed, 1]))
    found = g.add("Gather", g.random(len(WORDS) + 1, WIDTH, scale=1.0), "input_ids")
    found = g.add("Add", found, g.random(LENGTH, WIDTH, scale=0.3))
    g.add("Tanh", g.add("MatMul", found, g.random(WIDTH, WIDTH, scale=0.5)), output=output)
    return g.model([("input_ids", _INT64, ["batch", LENGTH])], [(output, _FLOAT, ["batch", LENGTH, WIDTH])])


def network(size, image=None, seed=0, channels=4):
    """A denoiser of `size` pixels: sample, timestep, encoder_hidden_states [, image of `image` pixels] ->
    out_sample.
    """
    g = _Graph(np.random.default_rng([seed, 2, size]))
    inputs = [
        ("sample", _FLOAT, ["batch", 3, size, size]),
        ("timestep", _INT64, ["batch"]),
        ("encoder_hidden_states", _FLOAT, ["batch", LENGTH, WIDTH]),
    ]
    hidden = g.conv("sample", 3, channels)
    time = g.add("Mul", g.add("Cast", "timestep", to=_FLOAT), g.constant(0.001, np.float32))
    time = g.add("Unsqueeze", time, g.constant([1], np.int64))
    time = g.add("MatMul", time, g.random(1, channels, scale=0.5))
    context = g.add("ReduceMean", "encoder_hidden_states", axes=[1], keepdims=0)
    context = g.add("MatMul", context, g.random(WIDTH, channels, scale=1.0))
    bias = g.add("Unsqueeze", g.add("Add", time, context), g.constant([2, 3], np.int64))
    hidden = g.add("Add", hidden, bias)
    if image is not None:
        inputs.append(("image", _FLOAT, ["batch", 3, image, image]))
        factor = size / image
        scales = g.constant([1, 1, factor, factor], np.float32)
        larger = g.add("Resize", "image", "", scales, mode="nearest")
        hidden = g.add("Add", hidden, g.conv(larger, 3, channels))
    out = g.conv(g.add("Tanh", hidden), channels, 3, gain=0.5)
    g.add("Identity", out, output="out_sample")
    return g.model(inputs, [("out_sample", _FLOAT, ["batch", 3, size, size])])


def image_network(outputs, output="embedding", seed=0, size=64):
    """image (B, 3, size, size) -> (B, outputs)."""
    g = _Graph(np.random.default_rng([seed, 3, outputs]))
    hidden = g.add("Tanh", g.conv("image", 3, 4, size=8, stride=8))
    hidden = g.add("Flatten", hidden, axis=1)
    width = 4 * (size // 8) ** 2
    g.add("MatMul", hidden, g.random(width, outputs, scale=width**-0.5), output=output)
    return g.model([("image", _FLOAT, ["batch", 3, size, size])], [(output, _FLOAT, ["batch", outputs])])


def text_network(outputs, seed=0):
    """input_ids (B, L) -> embedding (B, outputs)."""
    g = _Graph(np.random.default_rng([seed, 4, outputs]))
    found = g.add("Gather", g.random(len(WORDS) + 1, WIDTH, scale=1.0), "input_ids")
    found = g.add("ReduceMean", found, axes=[1], keepdims=0)
    g.add("MatMul", found, g.random(WIDTH, outputs, scale=1.0), output="embedding")
    return g.model([("input_ids", _INT64, ["batch", LENGTH])], [("embedding", _FLOAT, ["batch", outputs])])


def manifest():
    """What build() writes to cascade.json, without the FLOPs."""
    ports = {"sample": "sample", "timestep": "timestep", "context": "encoder_hidden_states"}
    upper = ports | {"image": "image"}
    prior_16 = {"part": "prior_16", "shape": [3, 16, 16], "ports": ports, "output": "out_sample"}
    prior_32 = {"part": "prior_32", "shape": [3, 32, 32], "ports": upper, "output": "out_sample"}
    decoder = {"part": "decoder", "shape": [3, 64, 64], "ports": upper, "output": "out_sample"}
    return {
        "format": 1,
        "name": "tiny",
        "text": {"part": "text_encoder", "tokenizer": "tokenizer"},
        "stages": [
            {"name": "prior", "place": "edge", "guidance": 1.0, "networks": [prior_16, prior_32]},
            {
                "name": "decode",
                "place": "device",
                "guidance": 1.5,
                "null": {"context": 0.0, "image": 0.0},
                "networks": [decoder],
            },
        ],
        "scheduler": "scheduler",
        "sampler": "ddim",
        "wire": {
            "name": "z_prior",
            "shape": [3, 32, 32],
            "dtype": "uint8",
            "range": [-1, 1],
            "bits": {"float32": 98304, "float16": 49152, "uint8": 24576},
        },
        "image": {"shape": [3, 64, 64], "range": [-1, 1], "bits": 98304},
        "provenance": {"script": "tests/bridge/tiny.py", "weights": "random"},
    }


#: FLOP by hand: products of a convolution or matrix with two a multiply-add.
FLOPS = {
    "encoder": 2 * 16 * 8 * 8,
    "prior_step": 2 * (2 * 27 * 4 * 16 * 16 + 4 + 8 * 4) + 2 * (3 * 27 * 4 * 32 * 32 + 4 + 8 * 4),
    "feature": 2 * 16 * 8 * 8,
    "decode_step": 2 * (3 * 27 * 4 * 64 * 64 + 4 + 8 * 4),
}


def write_json(path, value):
    """Write `value`, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1))


def save(model, folder, config=None):
    """Write a part: model.onnx and config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    write_json(folder / "config.json", config or {})


def build(folder, seed=0):
    """Write the folder.

    Parameters
    ----------
    folder : path
    seed : int

    Returns
    -------
    Path
        The folder.
    """
    folder = Path(folder)
    save(text_encoder(seed), folder / "text_encoder")
    save(network(16, seed=seed), folder / "prior_16")
    save(network(32, 16, seed=seed), folder / "prior_32")
    save(network(64, 32, seed=seed), folder / "decoder")
    save(image_network(WIDTH, seed=seed), folder / "embedder_image")
    save(text_network(WIDTH, seed=seed), folder / "embedder_text")
    save(image_network(24, "features", seed=seed), folder / "feature")
    logits = sum(map(len, _HEADS.values()))
    save(image_network(logits, "logits", seed=seed), folder / "checker", {"heads": _HEADS})
    parts = ["text_encoder", "prior_16", "prior_32", "decoder"]
    index = {"_class_name": "GenerativeCascade"} | {part: ["onnxruntime", "InferenceSession"] for part in parts}
    write_json(folder / "model_index.json", index)
    words = {word: i + 1 for i, word in enumerate(WORDS)}
    write_json(folder / "tokenizer" / "vocab.json", {"words": words, "length": LENGTH, "pad": 0})
    write_json(
        folder / "scheduler" / "scheduler_config.json",
        {
            "_class_name": "DDIMScheduler",
            "num_train_timesteps": 1000,
            "beta_schedule": "squaredcos_cap_v2",
            "prediction_type": "v_prediction",
            "timestep_spacing": "trailing",
            "clip_sample": True,
        },
    )
    write_json(folder / "cascade.json", manifest() | {"flops": FLOPS})
    return folder

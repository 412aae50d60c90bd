"""Reading model folders: what is read, and every way in which a manifest can lie."""

import json
import shutil

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from bridge import tiny
from edgeinfer import bridge


def test_what_is_read(tiny_folder):
    m = bridge.read_manifest(tiny_folder)
    assert (m.name, m.sampler, m.folder) == ("tiny", "ddim", tiny_folder.resolve())
    assert [(s.name, s.place, s.guidance, s.guided, s.iterative) for s in m.stages] == [
        ("prior", "edge", 1.0, False, True),
        ("decode", "device", 1.5, True, True),
    ]
    assert [n.part.name for s in m.stages for n in s.networks] == ["prior_16", "prior_32", "decoder"]
    port = m.decode.networks[0].part.inputs["image"]
    assert port == bridge.Port("image", "float32", (None, 3, 32, 32))
    assert m.wire.bits["uint8"] == 24576 and m.wire.range == (-1.0, 1.0) and m.image.shape == (3, 64, 64)
    assert m.scheduler == bridge.Scheduler(
        beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", timestep_spacing="trailing"
    )
    with pytest.raises(AttributeError):
        m.name = "other"
    with pytest.raises(TypeError):
        m.wire.bits["uint8"] = 1
    assert bridge.read_part(m.folder, "checker").outputs["logits"].shape == (None, 8)


@pytest.mark.parametrize("name", ["Network", "Stage", "Step", "serve"])
def test_a_former_name_names_its_successor(name):
    with pytest.warns(DeprecationWarning, match=f"{name}: is now ") as told:
        former = getattr(bridge, name)
    assert former is getattr(bridge, str(told[0].message).split()[-1]) and told[0].filename == __file__
    assert name not in bridge.__all__


@pytest.fixture
def folder(tiny_folder, tmp_path):
    """A copy that may be broken."""
    return shutil.copytree(tiny_folder, tmp_path / "model")


def put(data, path, value):
    *parents, last = path
    for key in parents:
        data = data[key]
    if value is ...:
        del data[last]
    else:
        data[last] = value


STAGES, PRIOR, DECODE = "stages", ("stages", 0), ("stages", 1)
FIRST, SECOND, DECODER = (*PRIOR, "networks", 0), (*PRIOR, "networks", 1), (*DECODE, "networks", 0)
LIES = [
    (("format",), 2, r"cascade.json: format = 2: must be 1"),
    (("format",), ..., r"format = \(missing\)"),
    (("name",), "", "name = '': must be a name"),
    (("name",), 7, "name = 7"),
    (("text",), None, "text = None: must be an object"),
    (("text", "part"), "decoder", r"text.input = \(missing\): must be an input of decoder/model.onnx"),
    (("text", "part"), "nothing", "text.part = 'nothing': nothing/model.onnx is missing"),
    (("text", "part"), "../model/text_encoder", "text.part = .*: must be the name of a folder beside it"),
    (("text", "part"), "/etc", "text.part = '/etc': must be the name"),
    (("text", "part"), "..", "text.part = '..': must be the name"),
    (("text", "input"), "ids", "text.input = 'ids': must be an input of text_encoder/model.onnx: 'input_ids'"),
    (("text", "output"), "pooled", "text.output = 'pooled': must be an output"),
    (("text", "tokenizer"), "../tokenizer", "text.tokenizer = '../tokenizer': must be the name of a folder"),
    (("text", "tokenizer"), "nothing", "text.tokenizer = 'nothing': must be a folder that is there"),
    (("stages",), [], "stages = .*: must be a list with at least one object"),
    (("stages",), {}, "stages = .*: must be a list"),
    (("stages",), [3], r"stages\[0\] = 3: must be an object"),
    ((*PRIOR, "name"), "decode", r"stages\[0\].name = 'decode': must be one of 'prior'"),
    ((*DECODE, "place"), "edge", r"stages\[1\].place = 'edge': must be one of 'device'"),
    ((*PRIOR, "guidance"), 2.0, r"stages\[0\].guidance = 2.0: must be 1 where there is no null"),
    ((*DECODE, "guidance"), -1, r"stages\[1\].guidance = -1: must be a finite number >= 0"),
    ((*DECODE, "guidance"), float("nan"), "guidance = nan"),
    ((*DECODE, "guidance"), True, "guidance = True"),
    ((*DECODE, "null"), [], r"null = \[\]: must be an object"),
    ((*DECODE, "null"), {"sample": 0.0}, "null.sample = 0.0: must be given for a port"),
    ((*DECODE, "null"), {"image": ""}, "null.image = ''"),
    ((*DECODE, "null"), {"context": "a red cat"}, "word 'cat' is not in the vocabulary"),
    ((*PRIOR, "null"), {"context": float("inf")}, "null.context = inf"),
    ((*PRIOR, "networks"), [], "networks"),
    ((*FIRST, "part"), "prior_32", "ports = .*: must be each of .*'image'.* once"),
    ((*FIRST, "part"), "a/b", r"networks\[0\].part = 'a/b': must be the name"),
    ((*FIRST, "shape"), [3, 32, 32], "prior_16/model.onnx: shape of 'sample' = .free, 3, 16, 16.: must be"),
    ((*FIRST, "shape"), [3, 16], "shape = .3, 16.: must be .channels, height, width."),
    ((*FIRST, "shape"), [3, 16, 0], "shape"),
    ((*FIRST, "shape"), [3, 16.0, 16], "shape"),
    ((*FIRST, "ports"), None, "ports = None"),
    (
        (*FIRST, "ports", "sample"),
        "smaple",
        "ports.sample = 'smaple': must be an input of prior_16/model.onnx: 'sample'",
    ),
    ((*FIRST, "ports", "sample"), ["sample"], "ports.sample"),
    ((*FIRST, "ports", "timestep"), ..., "ports = .*: must be each of"),
    ((*FIRST, "ports", "image"), "sample", "ports.image = 'sample': must be left out"),
    ((*FIRST, "ports", "mask"), "sample", "ports.mask = 'sample': must be left out"),
    ((*SECOND, "ports", "sample"), "image", "ports = .*: must be each of"),
    (
        (*SECOND, "ports"),
        {"sample": "image", "timestep": "timestep", "context": "encoder_hidden_states", "image": "sample"},
        "shape of 'image' = .free, 3, 16, 16.: must be .free, 3, 32, 32.",
    ),
    (
        (*SECOND, "ports"),
        {"sample": "sample", "timestep": "encoder_hidden_states", "context": "timestep", "image": "image"},
        "prior_32/model.onnx: ",
    ),
    ((*DECODER, "output"), "sample", "output = 'sample': must be an output of decoder/model.onnx: 'out_sample'"),
    ((*DECODER, "scale"), "big", "scale = 'big'"),
    (("scheduler",), "schedule", "scheduler = 'schedule': must be a folder that is there"),
    (("scheduler",), "../model/scheduler", "scheduler = '../model/scheduler': must be the name"),
    (("scheduler",), "decoder", "decoder/scheduler_config.json: missing"),
    (("sampler",), "euler", "sampler = 'euler': must be one of 'ddim', 'ddpm'"),
    (("wire", "shape"), [3, 16, 16], "wire.shape = .3, 16, 16.: must be .3, 32, 32., as the last prior network"),
    (("wire", "dtype"), "int8", "wire.dtype = 'int8': must be one of 'float32', 'float16', 'uint8'"),
    (("wire", "range"), [1, -1], "wire.range = .1, -1.: must be .low, high."),
    (("wire", "range"), [0, float("inf")], "wire.range"),
    (("wire", "range"), None, "wire.bits.uint8 = 24576: must be .*uint8 needs a range"),
    (("wire", "bits", "uint8"), 24575, "wire.bits.uint8 = 24575: must be 24576"),
    (("wire", "bits", "uint8"), 24576.0, "wire.bits.uint8 = 24576.0: must be a whole"),
    (("wire", "bits", "int4"), 12288, "wire.bits.int4 = 12288: must be for one of"),
    (("wire", "bits"), {}, "wire.bits = {}: must be given for"),
    (("wire",), ..., "wire = None: must be an object"),
    (("image", "shape"), [3, 32, 32], "image.shape = .3, 32, 32.: must be .3, 64, 64."),
    (("image", "bits"), 1, "image.bits = 1: must be 98304"),
    (("image", "range"), ["a", "b"], "image.range"),
    (("flops", "encoder"), -1, "flops.encoder = -1: must be a finite number >= 0"),
    (("flops", "feature"), ..., r"flops.feature = \(missing\)"),
    ((*DECODE, "passes"), 1, r"stages\[1\].passes = 1: must be 2"),
    ((*PRIOR, "passes"), 2, r"stages\[0\].passes = 2: must be 1"),
    (("provenance",), "trust me", "provenance = 'trust me': must be an object"),
]


@pytest.mark.parametrize(("path", "value", "text"), LIES, ids=lambda v: str(v)[:40] if isinstance(v, tuple) else "")
def test_a_manifest_that_lies(folder, path, value, text):
    data = json.loads((folder / "cascade.json").read_text())
    put(data, path, value)
    tiny.write_json(folder / "cascade.json", data)
    with pytest.raises(ValueError, match=text):
        bridge.load(folder)


def rewrite(path, change):
    model = onnx.load_model(path)
    change(model)
    path.write_bytes(model.SerializeToString())


def port(model, kind, name):
    return next(value for value in getattr(model.graph, kind) if value.name == name).type.tensor_type


def fix_batch(model):
    port(model, "input", "sample").shape.dim[0].dim_value = 1


def fix_output(model):
    port(model, "output", "out_sample").shape.dim[2].dim_value = 8


def wrong_type(model):
    port(model, "input", "sample").elem_type = TensorProto.INT32


def wrong_rank(model):
    del port(model, "input", "encoder_hidden_states").shape.dim[2]


def wrong_width(model):
    port(model, "input", "encoder_hidden_states").shape.dim[2].dim_value = 9


def wrong_time(model):
    port(model, "input", "timestep").shape.dim.add().dim_value = 1


def no_outputs(model):
    del model.graph.output[:]


def external(location):
    def change(model):
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)

    return change


def hidden_external(model):
    """External data in an attribute of a node rather than among the initialisers."""
    value = numpy_helper.from_array(np.zeros(3, np.float32), "value")
    value.ClearField("raw_data")
    value.data_location = TensorProto.EXTERNAL
    value.external_data.add(key="location", value="../../secret")
    model.graph.node.append(helper.make_node("Constant", [], ["hidden"], value=value))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (fix_batch, "prior_16/model.onnx: shape of 'sample' = .1, 3, 16, 16.: must be .free, 3, 16, 16."),
        (fix_output, "shape of 'out_sample' = .free, 3, 8, 16.: must be"),
        (wrong_type, "type of 'sample' = 'int32': must be one of 'float32', 'float16'"),
        (wrong_rank, "shape of 'encoder_hidden_states' = .free, 16.: must be .free, 16, 8."),
        (wrong_width, "shape of 'encoder_hidden_states' = .free, 16, 9.: must be .free, 16, 8."),
        (wrong_time, "'timestep' = int64 .free, 1.: must be a number for each element"),
        (no_outputs, "not an ONNX model: it has 3 inputs and 0 outputs"),
        (external("../../secret"), "prior_16/model.onnx: external data = .*secret.*: must lie in the model's folder"),
        (external("/etc/hostname"), "external data = '/etc/hostname': must lie in"),
        (external("a\0b"), "prior_16/model.onnx: external data: .*null"),
        (external("weights.bin"), "external data = 'weights.bin': missing"),
        (hidden_external, "external data = .*secret.*: must lie in"),
    ],
)
def test_onnx_files_that_lie(folder, change, text):
    rewrite(folder / "prior_16" / "model.onnx", change)
    (folder.parent / "secret").write_bytes(bytes(1 << 16))
    with pytest.raises(ValueError, match=text):
        bridge.load(folder)


def test_external_data_within_the_folder(folder):
    path = folder / "prior_16" / "model.onnx"
    before = bridge.load(folder, threads=1).prior(["a"], 2, [1])
    model = onnx.load_model(path)
    onnx.save_model(model, path, save_as_external_data=True, location="weights.bin", size_threshold=100)
    np.testing.assert_array_equal(bridge.load(folder, threads=1).prior(["a"], 2, [1]), before)


@pytest.mark.parametrize("part", ["prior_16", "text_encoder", "tokenizer", "scheduler"])
def test_links_that_leave_the_folder(folder, part):
    shutil.move(folder / part, folder.parent / part)
    (folder / part).symlink_to(folder.parent / part)
    with pytest.raises(ValueError, match="must lie in the model's folder"):
        bridge.load(folder)


def test_links_of_files(folder):
    path = folder / "decoder" / "model.onnx"
    shutil.move(path, folder.parent / "decoder.onnx")
    path.symlink_to(folder.parent / "decoder.onnx")
    with pytest.raises(ValueError, match=r"decoder/model.onnx = .*: must lie in the model's folder"):
        bridge.load(folder)
    path.unlink()
    path.symlink_to(path)
    with pytest.raises(ValueError, match=r"decoder/model.onnx"):
        bridge.load(folder)


@pytest.mark.parametrize(
    ("file", "content", "text"),
    [
        ("cascade.json", "{", "cascade.json: not JSON"),
        ("cascade.json", "[]", "cascade.json: the whole = .*: must be an object"),
        ("cascade.json", "[" * 100_000, "cascade.json: not JSON"),
        ("cascade.json", b"\xff\xfe", "cascade.json: not JSON"),
        ("tokenizer/vocab.json", "{}", r"tokenizer/vocab.json: length = \(missing\)"),
        ("tokenizer/vocab.json", '{"length": 15, "words": {"a": 1}, "pad": 0}', "shape of 'input_ids' = .free, 16."),
        ("tokenizer/vocab.json", '{"length": 16, "words": [], "pad": 0}', "vocab.json: words: must map"),
        ("tokenizer/vocab.json", '{"length": 16, "words": {"a": -1}, "pad": 0}', "vocab.json: words: must map"),
        ("tokenizer/vocab.json", '{"length": 16, "words": {"a": 1, "b": 1}, "pad": 0}', "words: ids must differ"),
        ("tokenizer/vocab.json", '{"length": 16, "words": {"a": 1}}', "vocab.json: pad = None"),
        (
            "scheduler/scheduler_config.json",
            '{"beta_schedule": "cubic"}',
            "scheduler_config.json: beta_schedule = 'cubic'",
        ),
        ("scheduler/scheduler_config.json", '{"beta_start": null}', "scheduler_config.json: "),
        ("scheduler/scheduler_config.json", "null", "scheduler_config.json: the whole = None"),
        ("prior_16/model.onnx", "nonsense", "prior_16/model.onnx: not an ONNX model"),
        ("prior_16/model.onnx", "", "prior_16/model.onnx: not an ONNX model"),
    ],
)
def test_files_that_lie(folder, file, content, text):
    (folder / file).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ValueError, match=text):
        bridge.load(folder)


@pytest.mark.parametrize("file", ["scheduler/scheduler_config.json", "tokenizer/vocab.json", "decoder/model.onnx"])
def test_missing_files(folder, file):
    (folder / file).unlink()
    with pytest.raises(ValueError, match=f"{file}.*missing|missing.*{file}"):
        bridge.load(folder)


@pytest.mark.parametrize("name", ["nothing", "file"])
def test_no_folder(tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=f"folder = .*{name}'"):
        bridge.load(tmp_path / name)
    with pytest.raises(ValueError, match=r"must hold a cascade\.json or a model_index\.json"):
        bridge.load(tmp_path)


@settings(max_examples=60, deadline=None)
@given(cut=st.floats(0, 1), part=st.sampled_from(["text_encoder", "prior_32"]))
def test_truncated_networks(tmp_path_factory, tiny_folder, cut, part):
    """A cut file fails when it is read or when it first runs, with its name; never with another error."""
    folder = shutil.copytree(tiny_folder, tmp_path_factory.mktemp("cut") / "model")
    path = folder / part / "model.onnx"
    content = path.read_bytes()
    path.write_bytes(content[: int(cut * (len(content) - 1))])
    with pytest.raises(ValueError, match=f"{part}"):
        bridge.load(folder, threads=1).prior(["a"], 1, [1])


def test_a_network_that_lies_when_it_runs(folder):
    """Free sizes promise nothing: the answer's shape is checked."""

    def change(model):
        port(model, "output", "out_sample").ClearField("shape")
        for _ in range(4):
            port(model, "output", "out_sample").shape.dim.add().dim_param = "any"
        model.graph.node[-1].output[0] = "whole"
        starts, ends, axes = (
            numpy_helper.from_array(np.array([n]), name) for n, name in ((0, "s"), (8, "e"), (3, "a"))
        )
        model.graph.initializer.extend([starts, ends, axes])
        model.graph.node.append(helper.make_node("Slice", ["whole", "s", "e", "a"], ["out_sample"]))

    rewrite(folder / "prior_16" / "model.onnx", change)
    cascade = bridge.load(folder, threads=1)
    with pytest.raises(
        ValueError, match=r"prior_16/model.onnx: output 'out_sample' of shape .*: must be .1, 3, 16, 16."
    ):
        cascade.prior(["a"], 1, [1])


def test_float16_and_scalar_time_ports(folder):
    """Types and ranks come from the files: a float16 sample, a float32 time step of rank 0."""
    before = bridge.load(folder, threads=1).prior(["a"], 3, [1])

    def change(model):
        port(model, "input", "sample").elem_type = TensorProto.FLOAT16
        port(model, "input", "timestep").elem_type = TensorProto.FLOAT
        del port(model, "input", "timestep").shape.dim[:]
        graph = model.graph
        graph.initializer.append(numpy_helper.from_array(np.array([1]), "one"))
        for node in graph.node:
            for i, name in enumerate(node.input):
                node.input[i] = {"sample": "wide", "timestep": "times"}.get(name, name)
        graph.node.insert(0, helper.make_node("Cast", ["sample"], ["wide"], to=TensorProto.FLOAT))
        graph.node.insert(0, helper.make_node("Reshape", ["timestep", "one"], ["times"]))

    rewrite(folder / "prior_16" / "model.onnx", change)
    after = bridge.load(folder, threads=1).prior(["a"], 3, [1])
    # float16 rounds the sample, of size at most 5, by 2^-9, in each of three steps of a network with gain of about 1.
    assert 0 < np.abs(after - before).max() < 5 * 3 * 2**-9

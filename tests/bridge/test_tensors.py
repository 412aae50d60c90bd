import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tritonclient.utils import serialize_byte_tensor

from edgeinfer.bridge.wire import tensors

DTYPES = st.sampled_from([np.bool_, np.uint8, np.int16, np.uint64, np.float16, np.float32, np.float64, np.int64])


@given(hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, min_side=0)))
def test_numbers_come_back(array):
    message = tensors.response("m", "i", {"x": array}, {"final": True, "step": 3, "text": "t"})
    found = tensors.arrays(message.outputs, message.raw_output_contents)["x"]
    assert found.dtype == array.dtype and found.shape == array.shape and found.tobytes() == array.tobytes()
    assert tensors.parameters(message) == {"final": True, "step": 3, "text": "t"}
    assert tensors.size(message) == len(message.SerializeToString()) + 5


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1))
def test_texts_are_tritons(texts):
    array = np.array(texts)
    message = tensors.request("m", "i", {"x": array}, {})
    expected = serialize_byte_tensor(np.array([text.encode() for text in texts], object)).item()
    assert message.raw_input_contents[0] == expected
    assert tensors.arrays(message.inputs, message.raw_input_contents)["x"].tolist() == texts


def test_typed_contents():
    request = tensors.service().ModelInferRequest()
    request.inputs.add(name="seed", datatype="INT64", shape=[2]).contents.int64_contents.extend([4, 5])
    request.inputs.add(name="caption", datatype="BYTES", shape=[1]).contents.bytes_contents.append(b"a circle")
    found = tensors.arrays(request.inputs, request.raw_input_contents)
    assert found["seed"].tolist() == [4, 5] and found["caption"].tolist() == ["a circle"]


@pytest.mark.parametrize(
    ("datatype", "shape", "raw", "text"),
    [
        ("BF16", [1], bytes(2), "datatype = 'BF16': must be one of"),
        ("INT32", [-1], bytes(4), "must not be negative"),
        ("INT32", [2], bytes(4), "4 bytes: shape .2. must have 8"),
        ("INT32", [2**62, 2**62], bytes(4), "must have"),
        ("BYTES", [1], b"\x05\0\0\0abc", "truncated"),
        ("BYTES", [1], b"\xff\xff\xff\xffabc", "truncated"),
        ("BYTES", [2], b"\x01\0\0\0a", "1 elements: shape .2. must have 2"),
        ("BYTES", [1], b"\x01\0\0\0\xff", "must be UTF-8"),
    ],
)
def test_what_does_not_fit_is_named(datatype, shape, raw, text):
    request = tensors.service().ModelInferRequest()
    request.inputs.add(name="x", datatype=datatype, shape=shape)
    with pytest.raises(ValueError, match=f"tensor 'x': .*{text}"):
        tensors.arrays(request.inputs, [raw])


def test_names_and_counts():
    request = tensors.service().ModelInferRequest()
    for _ in range(2):
        request.inputs.add(name="x", datatype="INT32", shape=[1])
    with pytest.raises(ValueError, match="'x': given twice"):
        tensors.arrays(request.inputs, [bytes(4), bytes(4)])
    with pytest.raises(ValueError, match="raw contents: 1 for 2 tensors"):
        tensors.arrays(request.inputs, [bytes(4)])

import re
from pathlib import Path

from google.protobuf.descriptor import FieldDescriptor

from edgeinfer.bridge.wire import signalling, signalling_pb2

KINDS = {
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_INT64: "int64",
    FieldDescriptor.TYPE_UINT64: "uint64",
    FieldDescriptor.TYPE_UINT32: "uint32",
    FieldDescriptor.TYPE_DOUBLE: "double",
}


def test_generated_messages_are_those_of_the_proto_file():
    """Without a compiler: every message, field, number and type, read from the text."""
    text = re.sub(r"//.*", "", Path(signalling.__file__).with_name("signalling.proto").read_text())
    written = {
        name: set(re.findall(r"(\w+) (\w+) = (\d+);", body))
        for name, body in re.findall(r"message (\w+) \{(.*?)\}", text, re.S)
    }
    generated = {
        message.name: {
            (KINDS.get(f.type) or (f.enum_type or f.message_type).name, f.name, str(f.number)) for f in message.fields
        }
        for message in signalling_pb2.DESCRIPTOR.message_types_by_name.values()
    }
    assert written == generated and len(written) == 3
    [body] = re.findall(r"enum Paradigm \{(.*?)\}", text, re.S)
    assert {(n, int(v)) for n, v in re.findall(r"(\w+) = (\d+);", body)} == set(signalling_pb2.Paradigm.items())
    [method] = signalling_pb2.DESCRIPTOR.services_by_name["Signalling"].methods
    [(name, request, response)] = re.findall(r"rpc (\w+)\((\w+)\) returns \((\w+)\)", text)
    assert (method.name, method.input_type.name, method.output_type.name) == (name, request, response)
    assert signalling.NEGOTIATE == f"/{method.containing_service.full_name}/{name}"


def test_fingerprint_tells_folders_apart(tmp_path):
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "model.onnx").write_bytes(b"12345")
    (tmp_path / "cascade.json").write_text("{}")
    marks = [signalling.fingerprint(tmp_path)]
    (tmp_path / "cascade.json").write_text("[]")
    marks.append(signalling.fingerprint(tmp_path))
    (tmp_path / "part" / "model.onnx").write_bytes(b"123456")
    marks.append(signalling.fingerprint(tmp_path))
    assert len(set(marks)) == 3 and all(re.fullmatch("[0-9a-f]{16}", mark) for mark in marks)

"""KEDA's protocol as we have it is KEDA's protocol as the pinned KEDA has it."""

from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from grpc_tools import protoc

from tests.e2e.parts.tools import module_folder, tools_or_skip

pytestmark = pytest.mark.e2e
OURS = Path(__file__).parents[2] / "proto" / "scaler" / "pb" / "externalscaler.proto"


def described(proto: Path, out: Path) -> FileDescriptorProto:
    target = out / f"{proto.parent.name}.binpb"
    assert protoc.main(["protoc", f"-I{proto.parent}", f"--descriptor_set_out={target}", proto.name]) == 0
    (found,) = FileDescriptorSet.FromString(target.read_bytes()).file
    return found


def contract(file: FileDescriptorProto) -> dict[str, Any]:
    """What both sides must agree on: package, messages with their fields' names, numbers, types and labels, calls."""
    return {
        "package": file.package,
        "messages": {
            message.name: {
                field.name: (field.number, field.type, field.label, field.type_name, field.proto3_optional)
                for field in message.field
            }
            for message in file.message_type
        },
        "nested": {
            (message.name, nested.name): [(field.name, field.number, field.type) for field in nested.field]
            for message in file.message_type
            for nested in message.nested_type
        },
        "calls": {
            (service.name, call.name): (call.input_type, call.output_type, call.client_streaming, call.server_streaming)
            for service in file.service
            for call in service.method
        },
    }


def test_our_protocol_is_that_of_the_keda_module(tmp_path: Path) -> None:
    tools_or_skip("keda-operator")
    scalers = module_folder("keda", "github.com/kedacore/keda/v2") / "pkg" / "scalers"
    theirs = contract(described(scalers / "externalscaler" / "externalscaler.proto", tmp_path))
    ours = contract(described(OURS, tmp_path))
    assert len(theirs["calls"]) == 5
    assert ours == theirs

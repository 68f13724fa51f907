"""Make `envoy.binpb`: the descriptors from which this crate's types are generated.

Envoy's messages come from the published package `xds-protos`; Istio's own few messages, which no
package has, from the `.proto` files beside this one's folder. Options that only annotate (validation,
status) are dropped: they are most of the size, and nothing here reads them.

Run by `make gen`; `tests/contracts/test_generated.py` holds the committed file to this program.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf import descriptor_pb2
from grpc_tools import protoc

if TYPE_CHECKING:
    from google.protobuf.descriptor import FileDescriptor

HERE = Path(__file__).parent
PROTO = HERE.parent / "proto"

# One line for each Envoy file that a resource of ours can name; imports follow by themselves.
ROOTS = (HERE / "roots.txt").read_text().split()


def strip_annotations(file: descriptor_pb2.FileDescriptorProto) -> None:
    """Keep of the options only what changes the encoding or the generated code."""
    file.ClearField("source_code_info")
    file.ClearField("options")
    file.ClearField("service")
    file.ClearField("extension")
    messages = list(file.message_type)
    for enum in file.enum_type:
        _strip_enum(enum)
    while messages:
        message = messages.pop()
        is_map = message.options.map_entry
        message.ClearField("options")
        message.ClearField("extension")
        if is_map:
            message.options.map_entry = True
        for field in message.field:
            packed = field.options.packed if field.options.HasField("packed") else None
            field.ClearField("options")
            if packed is not None:
                field.options.packed = packed
        for oneof in message.oneof_decl:
            oneof.ClearField("options")
        for enum in message.enum_type:
            _strip_enum(enum)
        messages.extend(message.nested_type)


def _strip_enum(enum: descriptor_pb2.EnumDescriptorProto) -> None:
    allow_alias = enum.options.allow_alias
    enum.ClearField("options")
    if allow_alias:
        enum.options.allow_alias = True
    for value in enum.value:
        value.ClearField("options")


def collect(name: str, files: dict[str, descriptor_pb2.FileDescriptorProto]) -> None:
    """Add the file of an xds-protos module and all its imports, imports first."""
    module = importlib.import_module(
        name.removesuffix(".proto").replace("/", ".").replace("-", "_") + "_pb2"
    )
    collect_descriptor(module.DESCRIPTOR, files)


def collect_descriptor(
    descriptor: FileDescriptor, files: dict[str, descriptor_pb2.FileDescriptorProto]
) -> None:
    if descriptor.name in files or is_annotation(descriptor.name):
        return
    for dependency in descriptor.dependencies:
        collect_descriptor(dependency, files)
    proto = descriptor_pb2.FileDescriptorProto()
    descriptor.CopyToProto(proto)
    strip_annotations(proto)
    kept = [d for d in proto.dependency if not is_annotation(d)]
    del proto.dependency[:]
    del proto.public_dependency[:]
    del proto.weak_dependency[:]
    proto.dependency.extend(kept)
    files[descriptor.name] = proto


def add_newer_fields(files: dict[str, descriptor_pb2.FileDescriptorProto]) -> None:
    """Add the fields of Envoy's API that Istio writes and the package does not have yet."""
    circuit_breaker = files["envoy/config/cluster/v3/circuit_breaker.proto"]
    (breakers,) = circuit_breaker.message_type
    (thresholds,) = (m for m in breakers.nested_type if m.name == "Thresholds")
    (budget,) = (m for m in thresholds.nested_type if m.name == "RetryBudget")
    if any(field.name == "budget_interval" for field in budget.field):
        return
    if "google/protobuf/duration.proto" not in circuit_breaker.dependency:
        circuit_breaker.dependency.append("google/protobuf/duration.proto")
    budget.field.add(
        name="budget_interval",
        json_name="budgetInterval",
        number=3,
        label=descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL,
        type=descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE,
        type_name=".google.protobuf.Duration",
    )


def is_annotation(name: str) -> bool:
    return name.startswith(
        ("udpa/annotations/", "xds/annotations/", "validate/", "envoy/annotations/")
    ) or (name == "google/protobuf/descriptor.proto")


def collect_istio(files: dict[str, descriptor_pb2.FileDescriptorProto]) -> None:
    with tempfile.TemporaryDirectory() as tmp:
        out = Path(tmp, "istio.binpb")
        sources = sorted(str(p.relative_to(PROTO)) for p in PROTO.rglob("*.proto"))
        include = Path(protoc.__file__).parent / "_proto"
        status = protoc.main(
            ["protoc", f"-I{PROTO}", f"-I{include}", f"--descriptor_set_out={out}", *sources]
        )
        if status != 0:
            sys.exit("protoc refused the files in rust/envoy/proto")
        istio = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())
    for proto in istio.file:
        files[proto.name] = proto


def build() -> bytes:
    """Return the serialized FileDescriptorSet, the same bytes for the same packages."""
    files: dict[str, descriptor_pb2.FileDescriptorProto] = {}
    for root in ROOTS:
        collect(root, files)
    add_newer_fields(files)
    collect_istio(files)
    return descriptor_pb2.FileDescriptorSet(file=files.values()).SerializeToString(
        deterministic=True
    )


if __name__ == "__main__":
    (HERE / "envoy.binpb").write_bytes(build())

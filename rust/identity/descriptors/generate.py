"""Make `ca.binpb`: the descriptors from which this crate's messages and service are generated.

Run by `make gen`; `tests/contracts/test_generated.py` holds the committed file to this program.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

HERE = Path(__file__).parent
PROTO = HERE.parent / "proto"


def build() -> bytes:
    """Return the serialized FileDescriptorSet, the same bytes for the same compiler."""
    include = Path(protoc.__file__).parent / "_proto"
    with tempfile.TemporaryDirectory() as tmp:
        out = Path(tmp, "ca.binpb")
        status = protoc.main(
            [
                "protoc",
                f"-I{PROTO}",
                f"-I{include}",
                "--include_imports",
                f"--descriptor_set_out={out}",
                "istio/v1/auth/ca.proto",
            ]
        )
        if status != 0:
            sys.exit("protoc refused the files in rust/identity/proto")
        return out.read_bytes()


if __name__ == "__main__":
    (HERE / "ca.binpb").write_bytes(build())

"""The name table of Istio's agent (NDS), whose message `xds-protos` does not have: looked at as bytes."""

from __future__ import annotations

import queue
from typing import Any, Final

import grpc
import pytest
from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2
from google.protobuf import json_format

from tests.xds import mesh as mesh_module
from tests.xds import stream

pytestmark = pytest.mark.extension

NAME_TABLE: Final = "type.googleapis.com/istio.networking.nds.v1.NameTable"
NODE: Final = mesh_module.NODE | {
    "metadata": mesh_module.NODE["metadata"] | {"ISTIO_VERSION": "1.32.0", "DNS_CAPTURE": "true"}
}


def ask(mesh: mesh_module.Mesh, form: str) -> Any:
    """Return the first response; the request half stays open meanwhile."""
    is_delta = form == stream.DELTA
    make = discovery_pb2.DeltaDiscoveryRequest if is_delta else discovery_pb2.DiscoveryRequest
    requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
    requests.put(make(type_url=NAME_TABLE, node=json_format.ParseDict(NODE, base_pb2.Node())))
    with grpc.insecure_channel(mesh.address) as channel:
        stub = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel)
        method = stub.DeltaAggregatedResources if is_delta else stub.StreamAggregatedResources
        got = next(method(iter(requests.get, None)))
        requests.put(None)
    return got


def test_it_is_one_table_of_all_services(mesh: mesh_module.Mesh, form: str) -> None:
    got = ask(mesh, form)
    assert got.type_url == NAME_TABLE
    assert len(got.resources) == 1
    table = got.resources[0].SerializeToString()
    for letter in "ab":
        assert mesh_module.host(letter).encode() in table
        assert mesh_module.cluster_ip(letter).encode() in table

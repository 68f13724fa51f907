"""An external authorizer by HTTP and by gRPC: it lets pass what has `x-pass: yes`.

authorizer.py HTTP_PORT GRPC_PORT
"""

from __future__ import annotations

import concurrent.futures
import http.server
import sys
import threading

import grpc
from envoy.config.core.v3 import base_pb2
from envoy.service.auth.v3 import external_auth_pb2, external_auth_pb2_grpc
from envoy.type.v3 import http_status_pb2
from google.rpc import code_pb2, status_pb2


class HttpHandler(http.server.BaseHTTPRequestHandler):
    """Answers 200 or 403, whatever the path is."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        is_passing = self.headers.get("x-pass") == "yes"
        self.send_response(200 if is_passing else 403)
        self.send_header("x-authorized-by" if is_passing else "x-refused-by", "http")
        self.send_header("content-length", "0")
        self.end_headers()

    do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815  the base class names them so


class Authorization(external_auth_pb2_grpc.AuthorizationServicer):  # type: ignore[misc]  # generated, untyped
    """The same over Envoy's own service."""

    def Check(  # noqa: N802  the service names it so
        self, request: external_auth_pb2.CheckRequest, _: grpc.ServicerContext
    ) -> external_auth_pb2.CheckResponse:
        asked = request.attributes.request.http
        # A connection has no headers: those of the port that ends on 1 pass.
        port = request.attributes.destination.address.socket_address.port_value
        is_passing = asked.headers.get("x-pass") == "yes" or (not asked.method and port % 10 == 1)
        header = base_pb2.HeaderValue(key="x-authorized-by" if is_passing else "x-refused-by")
        header.value = "grpc"
        told = [base_pb2.HeaderValueOption(header=header)]
        if is_passing:
            return external_auth_pb2.CheckResponse(
                status=status_pb2.Status(code=code_pb2.OK),
                ok_response=external_auth_pb2.OkHttpResponse(headers=told),
            )
        return external_auth_pb2.CheckResponse(
            status=status_pb2.Status(code=code_pb2.PERMISSION_DENIED),
            denied_response=external_auth_pb2.DeniedHttpResponse(
                status=http_status_pb2.HttpStatus(code=http_status_pb2.Forbidden), headers=told
            ),
        )


def main() -> None:
    """Serve on both ports until killed."""
    http_port, grpc_port = map(int, sys.argv[1:])
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
    external_auth_pb2_grpc.add_AuthorizationServicer_to_server(Authorization(), server)
    server.add_insecure_port(f"0.0.0.0:{grpc_port}")
    server.start()
    asked = http.server.ThreadingHTTPServer(("0.0.0.0", http_port), HttpHandler)
    threading.Thread(target=asked.serve_forever).start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()

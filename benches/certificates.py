"""How many certificates the authenticated port gives: to one client that asks on, and to agents that start at once.

Client and server share the machine: the server's own processor time is told apart from the time that all took.
`python -m benches.certificates` prints both; openssl makes the request.
"""

from __future__ import annotations

import base64
import concurrent.futures
import json
import os
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from navarch import core
from navarch.identity import reviews

_DESCRIPTORS = Path(__file__).parents[1] / "rust" / "identity" / "descriptors" / "ca.binpb"
_METHOD = "/istio.v1.auth.IstioCertificateService/CreateCertificate"
_N_CERTIFICATES = 5000
_N_WAITING = 50
_N_AGENTS = 2000
_N_THREADS = 64
_TIMEOUT_SECONDS = 60
_SERVER_THREADS = "navarch-secure"


class _Platform:
    """Takes every token at once: what is measured is navarch."""

    def review_token(self, token: str, audiences: Any) -> tuple[str, str]:  # noqa: ANN401, ARG002
        return "shop", "web"

    def may_read_secrets(self, namespace: str, service_account: str) -> bool:  # noqa: ARG002
        return False


def _messages() -> tuple[Any, Any]:
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(_DESCRIPTORS.read_bytes()).file:
        pool.Add(file)
    named = (f"istio.v1.auth.IstioCertificate{each}" for each in ("Request", "Response"))
    request, response = (
        message_factory.GetMessageClass(pool.FindMessageTypeByName(name)) for name in named
    )
    return request, response


def _encode(part: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def _token(number: int) -> str:
    claims = {"exp": int(time.time()) + 3600, "jti": number}
    return f"{_encode({'alg': 'RS256'})}.{_encode(claims)}.c2ln"


def _request() -> str:
    command = ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-keyout", "/dev/null", "-subj", "/O=bench"]
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout


class _Client:
    def __init__(self, address: str, roots: str) -> None:
        self._roots = roots.encode()
        self._port = address.rpartition(":")[2]
        self._request, self._response = _messages()
        self._csr = _request()

    def channel(self) -> grpc.Channel:
        alone = [("grpc.use_local_subchannel_pool", 1)]
        secure = grpc.ssl_channel_credentials(self._roots)
        return grpc.secure_channel(f"localhost:{self._port}", secure, options=alone)

    def ask(self, channel: grpc.Channel, number: int) -> Any:  # noqa: ANN401
        call = channel.unary_unary(
            _METHOD, self._request.SerializeToString, self._response.FromString
        )
        metadata = [("authorization", f"Bearer {_token(number)}")]
        return call.future(
            self._request(csr=self._csr), metadata=metadata, timeout=_TIMEOUT_SECONDS
        )

    def ask_on(self) -> float:
        """Ask for many on one connection; return how many come in a second."""
        with self.channel() as channel:
            self.ask(channel, 0).result()
            began, waiting = time.monotonic(), []
            for _ in range(_N_CERTIFICATES):
                waiting.append(self.ask(channel, 0))
                if len(waiting) > _N_WAITING:
                    waiting.pop(0).result()
            for each in waiting:
                each.result()
            return _N_CERTIFICATES / (time.monotonic() - began)

    def start_agents(self) -> float:
        """Connect agents at once, each with a token and a connection of its own; return the seconds that all take."""

        def start(number: int) -> None:
            with self.channel() as channel:
                self.ask(channel, number).result()

        began = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(_N_THREADS) as threads:
            list(threads.map(start, range(_N_AGENTS)))
        return time.monotonic() - began


def _server_seconds() -> float:
    """Return how much processor time the authenticated port's threads have used."""
    n_ticks = 0
    for task in Path("/proc/self/task").iterdir():
        try:
            told = (task / "stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue  # A thread that ended meanwhile; the port's own live on.
        name, _, rest = told.partition("(")[2].rpartition(")")
        if name == _SERVER_THREADS:
            user, system = rest.split()[11:13]
            n_ticks += int(user) + int(system)
    return n_ticks / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure and print."""
    for root_key in ("ecdsa-p256", "rsa-2048"):
        served = core.Core()
        served.serve("127.0.0.1:0")
        files = core.make_authority_files(core.AuthorityOptions(root_key=root_key))
        authority = core.Authority(files)
        options = core.SecureOptions(["localhost"], has_reviewer=True)
        address = served.serve_secure("127.0.0.1:0", authority, options)
        stop = threading.Event()
        desks = [
            threading.Thread(
                target=reviews.Desk(served, _Platform()).run, args=(stop,), daemon=True
            )
            for _ in range(8)
        ]
        for each in desks:
            each.start()
        client = _Client(address, authority.root_bundle())
        rate, spent = client.ask_on(), _server_seconds()
        micros = spent / _N_CERTIFICATES * 1e6
        print(f"{root_key}: {rate:.0f} certificates a second on one connection", end="; ")
        print(f"each is {micros:.0f} µs of the server")
        seconds = client.start_agents()
        spent = _server_seconds() - spent
        print(f"{root_key}: {_N_AGENTS} agents have theirs after {seconds:.1f} s", end="; ")
        print(f"they are {spent:.1f} s of the server")
        stop.set()
        for each in desks:
            each.join()
        served.drain(0)


if __name__ == "__main__":
    main()

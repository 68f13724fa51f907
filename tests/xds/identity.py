"""The authenticated port as a caller sees it: openssl, grpcio, and a platform that knows some tokens."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import json
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from navarch import core, errors
from navarch.identity import reviews
from tests import desk
from tests.xds import mesh as mesh_module
from tests.xds import stream as stream_module

if TYPE_CHECKING:
    from collections.abc import Sequence

NAMESPACE: Final = mesh_module.NAMESPACE
ACCOUNT: Final = "web"
AUDIENCE: Final = "istio-ca"
SECONDS: Final = 15

_DESCRIPTORS: Final = Path(__file__).parents[2] / "rust" / "identity" / "descriptors" / "ca.binpb"
_METHOD: Final = "/istio.v1.auth.IstioCertificateService/CreateCertificate"


def _messages() -> tuple[Any, Any]:
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(_DESCRIPTORS.read_bytes()).file:
        pool.Add(file)
    named = (f"istio.v1.auth.IstioCertificate{each}" for each in ("Request", "Response"))
    request, response = (
        message_factory.GetMessageClass(pool.FindMessageTypeByName(name)) for name in named
    )
    return request, response


CertificateRequest, _CertificateResponse = _messages()


def openssl(*arguments: str, told: str | bytes = "") -> bytes:
    """Run openssl on a text."""
    program = desk.find_program("openssl")
    told = told.encode() if isinstance(told, str) else told
    done = subprocess.run(
        [program, *arguments], input=told, capture_output=True, check=False, timeout=30
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def encode(part: bytes | dict[str, Any]) -> str:
    """Write a part of a JWT."""
    raw = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def token(lifetime: float = 600, **claims: Any) -> str:
    """Make a token that only a platform can judge."""
    claims = {"iss": "platform", "exp": int(time.time() + lifetime), "jti": time.time_ns()} | claims
    return f"{encode({'alg': 'RS256'})}.{encode(claims)}.{encode(b'signature')}"


def make_key() -> str:
    """Make a private key."""
    curve = ("-pkeyopt", "ec_paramgen_curve:P-256")
    return openssl("genpkey", "-algorithm", "EC", *curve).decode()


def make_request(key: str, uri: str = "") -> str:
    """Make a signing request that asks for the name `uri` everywhere where a name may stand."""
    wanted = uri or "spiffe://cluster.local/ns/kube-system/sa/admin"
    names = f"subjectAltName=URI:{wanted},DNS:istiod.istio-system.svc"
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(key)
        file.flush()
        made = openssl(
            "req", "-new", "-key", file.name, "-subj", f"/CN={wanted.replace('/', '_')}",
            "-addext", names, "-addext", "basicConstraints=critical,CA:TRUE",
        )  # fmt: skip
    return made.decode()


@dataclasses.dataclass
class Platform:
    """A reviewer that knows these tokens: whose each is and for whom it is meant."""

    tokens: dict[str, tuple[str, str, str]] = dataclasses.field(default_factory=dict)
    readers: set[tuple[str, str]] = dataclasses.field(default_factory=set)
    n_asked: int = 0

    def add(
        self, account: str = ACCOUNT, namespace: str = NAMESPACE, audience: str = AUDIENCE,
        lifetime: float = 600,
    ) -> str:  # fmt: skip
        """Give out a token."""
        made = token(lifetime)
        self.tokens[made] = (namespace, account, audience)
        return made

    def review_token(self, token_: str, audiences: Sequence[str]) -> tuple[str, str]:
        """Return whose token it is."""
        self.n_asked += 1
        if token_ not in self.tokens:
            raise errors.RefusedError("no such token")
        namespace, account, audience = self.tokens[token_]
        if audience not in audiences:
            raise errors.RefusedError(f"it is meant for {audience}")
        return namespace, account

    def may_read_secrets(self, namespace: str, service_account: str) -> bool:
        """Return whether it was allowed."""
        return (namespace, service_account) in self.readers


@dataclasses.dataclass(frozen=True)
class Credential:
    """A workload's certificate and key in PEM."""

    chain: str
    key: str


class Port:
    """A mesh of two services behind the authenticated port."""

    def __init__(
        self,
        options: core.SecureOptions | None = None,
        *,
        has_reviewer: bool = True,
        platform: reviews.Reviewer | None = None,
    ) -> None:
        """Open it; `platform` is asked about callers instead of the one that knows some tokens."""
        self.mesh = mesh_module.Mesh("ab")
        self.platform = Platform()
        self.files = core.make_authority_files()
        self.authority = core.Authority(self.files)
        options = options or core.SecureOptions(server_names=[])
        self._dir = tempfile.TemporaryDirectory()
        self.joins = options.join_directory or Path(self._dir.name)
        options = dataclasses.replace(
            options,
            server_names=["localhost"],
            has_reviewer=has_reviewer,
            join_directory=self.joins,
        )
        self.address = self.mesh.core.serve_secure("127.0.0.1:0", self.authority, options)
        self._stop = threading.Event()
        desk = reviews.Desk(self.mesh.core, platform or self.platform)
        self._answering = threading.Thread(target=desk.run, args=(self._stop,))
        self._answering.start()

    @property
    def number(self) -> int:
        """The port's number."""
        return int(self.address.rpartition(":")[2])

    def close(self) -> None:
        """Stop serving."""
        self._stop.set()
        self._answering.join()
        self.mesh.close()
        self._dir.cleanup()

    def replace(self, files: dict[str, bytes]) -> None:
        """Sign by other files, and wait until the server, which looks each second, serves by them."""
        self.authority.replace(files)
        time.sleep(1.5)

    def channel(self, credential: Credential | None = None, roots: str = "") -> grpc.Channel:
        """Connect, with a certificate or without."""
        roots = roots or self.authority.root_bundle()
        own = (credential.key.encode(), credential.chain.encode()) if credential else (None, None)
        secure = grpc.ssl_channel_credentials(roots.encode(), *own)
        alone = [("grpc.use_local_subchannel_pool", 1)]
        return grpc.secure_channel(f"localhost:{self.number}", secure, options=alone)

    def create(
        self, bearer: str = "", credential: Credential | None = None, roots: str = "",
        **fields: Any,
    ) -> list[str]:  # fmt: skip
        """Ask for a certificate; return the chain.

        Raises:
            grpc.RpcError: It is refused.
        """
        metadata = [("authorization", f"Bearer {bearer}")] if bearer else []
        with self.channel(credential, roots) as channel:
            call = channel.unary_unary(
                _METHOD, CertificateRequest.SerializeToString, _CertificateResponse.FromString
            )
            answer = call(CertificateRequest(**fields), metadata=metadata, timeout=SECONDS)
        return list(answer.cert_chain)

    def create_at_once(self, bearers: Sequence[str], csr: str) -> list[grpc.StatusCode]:
        """Ask for many certificates on one connection without waiting in between; return how each ended."""
        with self.channel() as channel:
            call = channel.unary_unary(
                _METHOD, CertificateRequest.SerializeToString, _CertificateResponse.FromString
            )
            asked = [
                call.future(
                    CertificateRequest(csr=csr),
                    metadata=[("authorization", f"Bearer {bearer}")],
                    timeout=SECONDS,
                )
                for bearer in bearers
            ]
            return [each.code() for each in asked]

    def enrol(self, bearer: str, seconds: int = 0, roots: str = "") -> Credential:
        """Get a certificate by a token."""
        key = make_key()
        chain = self.create(bearer, roots=roots, csr=make_request(key), validity_duration=seconds)
        return Credential("".join(chain[:-1]), key)

    @contextlib.contextmanager
    def open(
        self, form: str, bearer: str = "", credential: Credential | None = None,
        roots: str = "", kind: str = "sidecar", **node: Any,
    ) -> Any:  # fmt: skip
        """Open an ADS stream."""
        told = mesh_module.NODE
        metadata = told["metadata"] | {"SERVICE_ACCOUNT": ACCOUNT} | node
        namespace = metadata["NAMESPACE"]
        name = f"{kind}~10.1.0.1~web-1.{namespace}~{namespace}.svc.cluster.local"
        headers = [("authorization", f"Bearer {bearer}")] if bearer else []
        with self.channel(credential, roots) as channel:
            asked = told | {"id": name, "metadata": metadata}
            opened = stream_module.Stream(channel, form, asked, headers)
            try:
                yield opened
            finally:
                opened.cancel()


def code(error: pytest.ExceptionInfo[grpc.RpcError]) -> Any:
    """Return the status code of a refused call."""
    return error.value.code()


def uris(pem: str) -> str:
    """Return the alternative names of a certificate, as openssl tells them."""
    return openssl("x509", "-noout", "-ext", "subjectAltName", told=pem).decode().split("\n")[1]

"""A webhook server on loopback with a certificate of openssl's, and a client that trusts it."""

from __future__ import annotations

import dataclasses
import http.client
import json
import shutil
import ssl
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from navarch import settings
from navarch.webhooks import certificates, injector, server, settings_file
from tests import desk

if TYPE_CHECKING:
    from collections.abc import Iterator


def make_certificate(folder: Path, name: str = "webhooks") -> None:
    """Write `tls.crt`, `tls.key` and `ca.crt` as cert-manager would."""
    program = desk.find_program("openssl")
    folder.mkdir(parents=True, exist_ok=True)
    kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    names = ("-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost")
    files = ("-keyout", str(folder / "tls.key"), "-out", str(folder / "tls.crt"))
    command = [program, "req", "-x509", *kind, *names, *files]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    shutil.copy(folder / "tls.crt", folder / "ca.crt")


@dataclasses.dataclass
class Webhooks:
    """A running server."""

    server: server.WebhookServer
    injector: injector.Injector
    keeper: certificates.Keeper
    folder: Path

    def connect(self) -> http.client.HTTPSConnection:
        tls = ssl.create_default_context(cafile=str(self.folder / "ca.crt"))
        port = self.server.address.port
        return http.client.HTTPSConnection("127.0.0.1", port, timeout=20, context=tls)

    def post(
        self, path: str, body: bytes, content_type: str = "application/json"
    ) -> tuple[int, bytes]:
        connection = self.connect()
        try:
            connection.request("POST", path, body, {"Content-Type": content_type})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def ask(self, path: str, request: dict[str, Any]) -> dict[str, Any]:
        """Post a review; return the response in the one that answers."""
        status, body = self.post(path, json.dumps(as_review(request)).encode())
        assert status == 200, body
        told = json.loads(body)
        assert (told["apiVersion"], told["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
        assert told["response"]["uid"] == "uid-1"
        response: dict[str, Any] = told["response"]
        return response


def as_review(request: dict[str, Any]) -> dict[str, Any]:
    asked = {"uid": "uid-1", "operation": "CREATE", "namespace": "shop", "name": ""} | request
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": asked}


@pytest.fixture(scope="session")
def webhooks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Webhooks]:
    folder = tmp_path_factory.mktemp("webhooks")
    make_certificate(folder)
    keeper = certificates.Keeper(certificates.FileIssuer(folder), ["localhost"])
    pods = injector.Injector(settings_file.SettingsFile(None))
    made = server.WebhookServer(settings.Address("127.0.0.1", 0), lambda: keeper.context, pods)
    yield Webhooks(made, pods, keeper, folder)
    made.close()

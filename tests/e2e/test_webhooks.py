"""`navarch serve` with webhooks, in a process of its own."""

from __future__ import annotations

import base64
import http.client
import json
import re
import ssl
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.unit.webhooks import conftest

pytestmark = pytest.mark.extension
NAVARCH = str(Path(sys.executable).with_name("navarch"))
PROXY_CONFIG = """\
apiVersion: networking.istio.io/v1beta1
kind: ProxyConfig
metadata: {name: p, namespace: shop}
spec: {concurrency: 7}
"""
POD = {"kind": "Pod", "metadata": {}, "spec": {"containers": [{"name": "app", "image": "web"}]}}


def wait_for(log: Path, pattern: str) -> str:
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        if found := re.search(pattern, log.read_text()):
            return found[1]
        time.sleep(0.05)
    raise AssertionError(log.read_text())


def ask(port: str, certificates: Path, path: str, request: dict[str, Any]) -> dict[str, Any]:
    tls = ssl.create_default_context(cafile=str(certificates / "ca.crt"))
    connection = http.client.HTTPSConnection("127.0.0.1", int(port), timeout=20, context=tls)
    body = json.dumps(conftest.as_review(request)).encode()
    connection.request("POST", path, body, {"Content-Type": "application/json"})
    answer = json.loads(connection.getresponse().read())
    connection.close()
    response: dict[str, Any] = answer["response"]
    return response


def test_a_running_navarch_answers_by_what_its_mesh_says(tmp_path: Path) -> None:
    """A ProxyConfig of the mesh reaches the pods that are created after it; its figures are told."""
    mesh, certificates, log = tmp_path / "mesh", tmp_path / "certificates", tmp_path / "log"
    mesh.mkdir()
    (mesh / "proxy.yaml").write_text(PROXY_CONFIG)
    conftest.make_certificate(certificates)
    command = [NAVARCH, "serve", "--config-dir", mesh, "--webhook-certificates", certificates]
    command += ["--https-address", "127.0.0.1:0", "--grpc-address", "127.0.0.1:0"]
    with log.open("w") as out:
        process = subprocess.Popen(
            [*map(str, command), "--http-address", "127.0.0.1:0"], stderr=out
        )
    try:
        web = wait_for(log, r"HTTP on (\S+)")
        port = wait_for(log, r"webhooks on 127\.0\.0\.1:(\d+)")
        response = ask(port, certificates, "/inject", {"object": POD})
        (init,) = (
            each["value"]
            for each in json.loads(base64.b64decode(response["patch"]))
            if each["path"] == "/spec/initContainers"
        )
        env = {each["name"]: each.get("value", "") for c in init for each in c.get("env", ())}
        assert json.loads(env["PROXY_CONFIG"])["concurrency"] == 7
        bad = {"apiVersion": "networking.istio.io/v1", "kind": "Sidecar", "metadata": {"name": "x"}}
        assert ask(port, certificates, "/validate", {"object": bad})["allowed"] is False
        with urllib.request.urlopen(f"http://{web}/metrics", timeout=60) as answer:
            figures = answer.read().decode()
        assert "\nsidecar_injection_success_total 1\n" in figures
        assert "\ngalley_validation_failed 1\n" in figures
    finally:
        process.terminate()
        assert process.wait(20) == 0


def test_webhooks_without_a_certificate_are_refused_with_the_remedy(tmp_path: Path) -> None:
    command = [NAVARCH, "serve", "--config-dir", str(tmp_path), "--https-address", "127.0.0.1:0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)
    assert done.returncode == 1
    assert "--webhook-certificates" in done.stderr

"""`navarch simulate`, as it is installed: where requests land in a case that Istio answers too."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.extension
NAVARCH = str(Path(sys.executable).with_name("navarch"))
CASE = Path(__file__).parents[1] / "parity" / "cases" / "http-canary"
FROM_WEB = ("-f", CASE / "input.yaml", "--from", "shop/web")
GATEWAY = """\
apiVersion: v1
kind: Pod
metadata: {name: gw-1, namespace: shop, labels: {app: gw}}
status: {phase: Running, podIP: 10.1.0.9, podIPs: [{ip: 10.1.0.9}]}
---
apiVersion: v1
kind: Service
metadata: {name: gw, namespace: shop}
spec:
  clusterIP: 10.96.0.9
  selector: {app: gw}
  ports: [{name: http, port: 80, targetPort: 8080}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: gw-a, namespace: shop, labels: {kubernetes.io/service-name: gw}}
addressType: IPv4
ports: [{name: http, port: 8080, protocol: TCP}]
endpoints:
- {addresses: [10.1.0.9], conditions: {ready: true}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gw, namespace: shop}
spec:
  selector: {app: gw}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [shop.example.com]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop, namespace: shop}
spec:
  hosts: [shop.example.com]
  gateways: [gw]
  http: [{route: [{destination: {host: reviews}}]}]
"""


def simulate(*args: str | Path) -> subprocess.CompletedProcess[str]:
    command = [NAVARCH, "simulate", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)


def landing(*args: str | Path) -> dict[str, Any]:
    done = simulate(*args, "-o", "json")
    assert not done.stderr
    made: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if made["is_delivered"] else 1)
    return dict(made["landing"])


@pytest.mark.parametrize(
    ("flags", "cluster", "address"),
    [
        ([], "outbound|80|v1|reviews.shop.svc.cluster.local", "10.1.0.2:8080"),
        (["--percent", "95"], "outbound|80|v2|reviews.shop.svc.cluster.local", "10.1.0.3:8080"),
        (
            ["--header", "X-Canary=1"],
            "outbound|80|v2|reviews.shop.svc.cluster.local",
            "10.1.0.3:8080",
        ),
    ],
)
def test_a_canary_lands_by_header_and_weight(flags: list[str], cluster: str, address: str) -> None:
    found = landing(*FROM_WEB, "--url", "http://reviews/x?y=1", *flags)
    assert found["cluster"] == cluster
    assert [each["address"] for each in found["endpoints"]] == [address]
    assert found["request"]["path"] == "/x?y=1"


def test_a_node_gives_the_same_as_the_workload_it_is_of(tmp_path: Path) -> None:
    node = tmp_path / "node.json"
    node.write_text(json.dumps(yaml.safe_load((CASE / "proxies.yaml").read_text())[0]["node"]))
    told = ("-f", CASE / "input.yaml", "--node", node)
    assert landing(*told, "--url", "http://reviews") == landing(
        *FROM_WEB, "--url", "http://reviews"
    )


def test_the_text_tells_the_steps_and_goes_on_through_the_receiver() -> None:
    done = simulate(*FROM_WEB, "--url", "http://reviews/", "--receive")
    assert done.returncode == 0
    sent, received = done.stdout.split("at the receiving sidecar:")
    assert "not route 0: header x-canary is absent, wanted it is `1`" in sent
    assert "=> lands on cluster inbound|8080||" in received


def test_what_no_endpoint_gets_exits_with_1_and_the_reason(tmp_path: Path) -> None:
    strict = tmp_path / "mesh.yaml"
    strict.write_text("outboundTrafficPolicy: {mode: REGISTRY_ONLY}\n")
    done = simulate(*FROM_WEB, "--mesh-config", strict, "--url", "http://elsewhere.example")
    assert done.returncode == 1
    assert "=> the proxy answers 502" in done.stdout
    done = simulate(*FROM_WEB, "--mesh-config", strict, "--tcp", "192.0.2.1:25")
    assert done.returncode == 1
    assert "=> the connection is closed: cluster BlackHoleCluster has no endpoints" in done.stdout


def test_a_workload_that_a_gateway_selects_is_a_gateway(tmp_path: Path) -> None:
    (tmp_path / "gateway.yaml").write_text(GATEWAY)
    told = ("-f", CASE / "input.yaml", "-f", tmp_path, "--from", "shop/gw")
    found = landing(*told, "--url", "http://shop.example.com/")
    assert found["cluster"] == "outbound|80||reviews.shop.svc.cluster.local"
    assert landing(*told, "--url", "http://other.example.com/")["status"] == 404


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (
            ("--from", "shop/nobody", "--url", "http://reviews"),
            "no Pod or WorkloadEntry shop/nobody",
        ),
        (("--from", "shop/web", "--url", "ftp://reviews"), "must be SCHEME://HOST"),
        (("--from", "shop/web", "--tcp", "reviews"), "needs a port"),
        (("--from", "shop/web", "--url", "http://a", "--address", "b"), "must be IP or IP:PORT"),
        (("--from", "shop/web"), "give either --url URL or --tcp HOST:PORT"),
        (("--url", "http://reviews"), "give -f INPUT, and either --from"),
    ],
)
def test_what_cannot_be_asked_is_told(args: tuple[str, ...], said: str) -> None:
    done = simulate("-f", CASE / "input.yaml", *args)
    assert done.returncode != 0
    assert said in done.stderr
    assert "Traceback" not in done.stderr

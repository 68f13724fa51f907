"""The command as it is installed, in processes of its own."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.extension
NAVARCH = str(Path(sys.executable).with_name("navarch"))
CASE = Path(__file__).parents[1] / "parity" / "cases" / "k8s-protocol-by-name"

GOOD = """\
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  clusterIP: 10.96.0.1
  ports:
  - {name: http, port: 80, targetPort: 8080, protocol: TCP}
"""
BAD = """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop}
spec:
  hosts: [web]
  http:
  - route:
    - destination: {host: web}
      weight: many
  colour: blue
---
apiVersion: networking.istio.io/v1
kind: VirtualServicee
metadata: {name: web}
---
kind: [
"""


def navarch(*args: str | Path) -> subprocess.CompletedProcess[str]:
    command = [NAVARCH, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)


def node(case: Path) -> dict[str, Any]:
    made: dict[str, Any] = yaml.safe_load((case / "proxies.yaml").read_text())[0]["node"]
    return made


def test_networks_come_from_a_file_of_their_own(tmp_path: Path) -> None:
    told, asks = tmp_path / "node.json", node(CASE)
    asks["metadata"]["NETWORK"] = "near"
    told.write_text(json.dumps(asks))
    networks = tmp_path / "networks.yaml"
    far = (
        "{endpoints: [{fromRegistry: Kubernetes}], gateways: [{address: 192.0.2.77, port: 15443}]}"
    )
    networks.write_text(f"networks: {{far: {far}}}\n")
    given: list[str | Path] = ["-f", CASE / "input.yaml", "--mesh-networks", networks]
    done = navarch("translate", *given, "--node", told)
    assert done.returncode == 0, done.stderr
    assert "192.0.2.77" in done.stdout
    networks.write_text("networks: {far: {gateways: [{port: 15443}]}}\n")
    done = navarch("validate", *given)
    assert done.returncode == 1
    assert f"{networks}:1: MeshNetworks mesh: networks.far.gateways[0]" in done.stdout


def test_help_names_every_command() -> None:
    done = navarch("--help")
    assert done.returncode == 0
    for command in ("serve", "translate", "validate", "bootstrap"):
        assert command in done.stdout
        assert navarch(command, "--help").returncode == 0


def test_validate_counts_what_is_fine(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    done = navarch("validate", "-f", tmp_path / "a.yaml")
    assert (done.returncode, done.stdout) == (0, "1 object in force, no faults\n"), done.stderr


def test_a_field_that_is_not_known_is_a_fault_to_validate_and_a_warning_elsewhere(
    tmp_path: Path,
) -> None:
    """A mesh that is served takes objects of newer APIs; who checks a file wants to hear of slips of the pen."""
    (tmp_path / "a.yaml").write_text(GOOD)
    (tmp_path / "b.yaml").write_text(BAD.partition("---")[0].replace("many", "1"))
    done = navarch("validate", "-f", tmp_path)
    assert (done.returncode, "1 object in force, 1 fault" in done.stderr) == (1, True), done.stderr
    with contextlib.closing(Served(tmp_path)) as served:
        told = served.read_until("spec.colour")
        assert "b.yaml:10" in told
        assert "navarch leaves it out" in told
        assert "navarch_objects 3" in served.get("/metrics")[1]


def test_validate_names_every_fault_with_line_object_and_field(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(BAD)
    done = navarch("validate", "-f", path)
    assert done.returncode == 1
    told = done.stdout.splitlines()
    assert any(
        line.startswith(f"{path}:9: VirtualService shop/web: spec.http[0].route[0].weight: ")
        for line in told
    ), told
    assert any(
        "spec.colour" in line and line.endswith("[unknown-field, IST0106]") for line in told
    ), told
    assert any(
        "VirtualServicee default/web" in line or "VirtualServicee web" in line for line in told
    )
    assert any(line.startswith(f"{path}:16: ") and "[invalid-yaml]" in line for line in told), told
    assert "Traceback" not in done.stderr


def test_translate_prints_all_resources_of_a_proxy(tmp_path: Path) -> None:
    node_file = tmp_path / "node.json"
    node_file.write_text(json.dumps(node(CASE)))
    args = ("translate", "-f", CASE / "input.yaml", "--node", node_file)
    done = navarch(*args)
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    names = {listener["name"] for listener in made["listeners"]}
    assert {"virtualInbound", "virtualOutbound"} <= names
    assert any(c["name"].startswith("outbound|") for c in made["clusters"])
    assert yaml.safe_load(navarch(*args, "-o", "yaml").stdout) == made


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "node is an object"),
        ("{", "not valid YAML"),
        ("{}", ""),
        ('{"id": "x"}', ""),
        ("[]", "node is"),
    ],
)
def test_a_node_that_is_none_is_a_clear_error(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    (tmp_path / "node.json").write_text(text)
    done = navarch("translate", "-f", tmp_path / "a.yaml", "--node", tmp_path / "node.json")
    assert done.returncode == 1
    assert done.stderr.startswith("navarch: ")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_broken_case_stops_no_other(tmp_path: Path) -> None:
    cases, out = tmp_path / "cases", tmp_path / "out"
    for case in ("a", "b", "c"):
        (cases / case).mkdir(parents=True)
        (cases / case / "input.yaml").write_text(GOOD)
        proxies = [{"name": "p", "node": node(CASE)}, {"name": "q", "node": {"id": "nobody"}}]
        (cases / case / "proxies.yaml").write_text(yaml.safe_dump(proxies))
    (cases / "b" / "proxies.yaml").write_text("3")
    done = navarch("translate", "--cases", cases, "--out", out)
    assert done.returncode == 1
    assert sorted(str(p.relative_to(out)) for p in out.rglob("*.json")) == ["a/p.json", "c/p.json"]
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == [
        "error a/q",
        "error b",
        "error c/q",
        "2 written, 3 failed",
    ]


class Served:
    """A `navarch serve` on free ports."""

    def __init__(self, folder: Path, *flags: str) -> None:
        command = [NAVARCH, "serve", "--config-dir", str(folder), "--grpc-address", "127.0.0.1:0"]
        command += ["--http-address", "127.0.0.1:0", *flags]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.lines: list[str] = []
        line = self.read_until("ADS on ")
        words = line.split("ADS on ")[1].strip().split(", HTTP on ")
        self.ads, self.http = words

    def read_until(self, text: str) -> str:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            if text in line:
                return line
        raise AssertionError(f"{text!r} was not logged: {self.lines}")

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://{self.http}{path}", timeout=5) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(60)
        if self.process.stderr is not None:
            self.process.stderr.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    (tmp_path / "a.yaml").write_text(GOOD)
    made = Served(tmp_path)
    yield made
    made.close()


def test_a_served_mesh_answers_for_itself(served: Served) -> None:
    assert served.get("/ready") == (200, "ok\n")
    assert served.get("/healthz") == (200, "ok\n")
    assert "navarch_objects 2" in served.get("/metrics")[1]
    assert json.loads(served.get("/debug/syncz")[1]) == []
    assert served.get("/debug/config_dump?proxyID=nobody")[0] == 404


def test_a_fault_is_logged_with_its_place_and_known_good_stays(
    served: Served, tmp_path: Path
) -> None:
    (tmp_path / "bad.yaml").write_text(BAD)
    assert "bad.yaml:9" in served.read_until("spec.http[0].route[0].weight")
    deadline = time.monotonic() + 10
    while len(told := json.loads(served.get("/debug/diagnosticsz")[1])) < 4:
        assert time.monotonic() < deadline, told
        time.sleep(0.1)
    assert {"unknown-field", "unknown-kind", "invalid-yaml"} <= {each["code"] for each in told}
    assert served.get("/ready")[0] == 200
    assert "navarch_objects 2" in served.get("/metrics")[1]
    (tmp_path / "bad.yaml").unlink()
    served.read_until("resolved: ")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(served: Served, number: signal.Signals) -> None:
    served.process.send_signal(number)
    served.read_until("stopped")
    assert served.process.wait(60) == 0
    assert not any("Traceback" in line for line in served.lines)


def test_a_port_in_use_is_one_clear_line(served: Served, tmp_path: Path) -> None:
    for flag, address in (("--grpc-address", served.ads), ("--http-address", served.http)):
        other = {"--grpc-address": "--http-address", "--http-address": "--grpc-address"}[flag]
        done = navarch("serve", "--config-dir", tmp_path, flag, address, other, "127.0.0.1:0")
        assert done.returncode == 1
        assert flag in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr


def test_a_missing_folder_is_one_clear_line(tmp_path: Path) -> None:
    done = navarch("serve", "--config-dir", tmp_path / "nowhere")
    assert done.returncode == 1
    assert done.stderr == f"navarch: --config-dir {tmp_path / 'nowhere'} does not exist\n"


def test_bootstrap_prints_yaml_and_json() -> None:
    args = ("bootstrap", "--ip", "10.1.1.1", "--pod", "a", "--namespace", "x", "--metadata", "N=3")
    made = yaml.safe_load(navarch(*args).stdout)
    assert made["node"]["metadata"]["N"] == 3
    assert json.loads(navarch(*args, "-o", "json").stdout) == made
    assert navarch("bootstrap").returncode == 1


def test_definitions_are_printed_and_written(tmp_path: Path) -> None:
    printed = list(yaml.safe_load_all(navarch("crds").stdout))
    assert navarch("crds", "--output", str(tmp_path / "crds")).returncode == 0
    written = sorted((tmp_path / "crds").iterdir())
    assert len(printed) == len(written) == 15
    names = {made["metadata"]["name"] for made in printed}
    assert {file.stem for file in written} == names


def test_inject_prints_all_documents_with_proxies_in_pods(tmp_path: Path) -> None:
    pod = {"containers": [{"name": "app", "image": "web"}]}
    documents = [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}},
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": pod},
    ]
    file = tmp_path / "objects.yaml"
    file.write_text(yaml.safe_dump_all(documents))
    settings = tmp_path / "settings.yaml"
    settings.write_text("nativeSidecars: false")
    done = navarch("inject", "-f", str(file), "--settings", str(settings))
    service, injected = yaml.safe_load_all(done.stdout)
    assert service == documents[0]
    assert [each["name"] for each in injected["spec"]["containers"]] == ["app", "istio-proxy"]
    settings.write_text("nativeSidecar: false")
    done = navarch("inject", "-f", str(file), "--settings", str(settings))
    assert done.returncode == 1
    assert "did you mean `nativeSidecars`" in done.stderr

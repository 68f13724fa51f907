"""Probes and metrics that go through the agent."""

from __future__ import annotations

import json
from typing import Any

from tests.unit.injection.pods import DEFAULT, PLAIN, container, inject, pod, variables

APP: dict[str, Any] = {
    "name": "app",
    "image": "web:1",
    "ports": [{"name": "http", "containerPort": 8080}],
    "readinessProbe": {
        "httpGet": {"path": "/r", "port": "http", "scheme": "HTTPS"},
        "timeoutSeconds": 2,
        "periodSeconds": 7,
    },
    "livenessProbe": {"tcpSocket": {"port": 8080}},
    "startupProbe": {"grpc": {"port": 9000, "service": "s"}},
    "lifecycle": {
        "preStop": {"httpGet": {"path": "/bye", "port": 8080}},
        "postStart": {"exec": {"command": ["true"]}},
    },
}


def test_every_kind_of_probe_is_asked_by_the_agent() -> None:
    done = inject(pod(containers=[APP]))
    app = container(done.pod, "app")
    assert app["readinessProbe"] == {
        "httpGet": {"path": "/app-health/app/readyz", "port": 15020, "scheme": "HTTP"},
        "timeoutSeconds": 2,
        "periodSeconds": 7,
    }
    assert app["livenessProbe"] == {"httpGet": {"path": "/app-health/app/livez", "port": 15020}}
    assert app["startupProbe"] == {"httpGet": {"path": "/app-health/app/startupz", "port": 15020}}
    assert app["lifecycle"]["preStop"]["httpGet"]["path"] == "/app-health/app/prestopz"
    assert app["lifecycle"]["postStart"] == APP["lifecycle"]["postStart"]
    assert json.loads(variables(done.pod)["ISTIO_KUBE_APP_PROBERS"]) == {
        "/app-health/app/readyz": {
            "httpGet": {"path": "/r", "port": 8080, "scheme": "HTTPS"},
            "timeoutSeconds": 2,
        },
        "/app-health/app/livez": {"tcpSocket": {"port": 8080}},
        "/app-health/app/startupz": {"grpc": {"port": 9000, "service": "s"}},
        "/app-health/app/prestopz": {"httpGet": {"path": "/bye", "port": 8080}},
    }


def test_the_status_port_is_the_annotations() -> None:
    done = inject(pod(containers=[APP], annotations={"status.sidecar.istio.io/port": "15120"}))
    assert container(done.pod, "app")["livenessProbe"]["httpGet"]["port"] == 15120


def test_probes_stay_where_that_is_wished_or_the_port_is_not_captured() -> None:
    wish = {"sidecar.istio.io/rewriteAppHTTPProbers": "false"}
    done = inject(pod(containers=[APP], annotations=wish))
    assert container(done.pod, "app") == APP
    assert "ISTIO_KUBE_APP_PROBERS" not in variables(done.pod)
    ports = {"traffic.sidecar.istio.io/includeInboundPorts": "9000"}
    app = container(inject(pod(containers=[APP], annotations=ports)).pod, "app")
    assert app["livenessProbe"] == APP["livenessProbe"]
    assert app["startupProbe"]["httpGet"]["path"] == "/app-health/app/startupz"


def test_metrics_are_scraped_at_the_agent_which_knows_where_they_are() -> None:
    told = {
        "prometheus.io/scrape": "true",
        "prometheus_io_port": "9100",
        "prometheus.io/path": "/m",
    }
    done = inject(pod(annotations=told), PLAIN)
    annotations = done.pod["metadata"]["annotations"]
    assert {k: v for k, v in annotations.items() if k.startswith("prometheus")} == {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": "15020",
        "prometheus.io/path": "/stats/prometheus",
    }
    assert json.loads(variables(done.pod)["ISTIO_PROMETHEUS_ANNOTATIONS"]) == {
        "scrape": "true",
        "path": "/m",
        "port": "9100",
    }


def test_metrics_stay_where_scraping_is_off_or_merging_is_not_wished() -> None:
    for told in ({"prometheus.io/scrape": "false"}, {"prometheus.istio.io/merge-metrics": "false"}):
        done = inject(pod(annotations=told), DEFAULT)
        found = done.pod["metadata"]["annotations"]
        assert {k: v for k, v in found.items() if k.startswith("prometheus")} == told

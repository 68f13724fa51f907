"""What the authenticated port tells of itself, under Istio's names."""

from __future__ import annotations

import calendar
import re
import time

import grpc
import pytest

from tests.xds import identity
from tests.xds.test_identity import refused

pytestmark = pytest.mark.extension


def figure(port: identity.Port, name: str, labels: str = "") -> float:
    """Return one of navarch's metrics."""
    found = re.search(rf"^{name}{re.escape(labels)} (\S+)$", port.mesh.core.metrics(), re.MULTILINE)
    assert found, f"{name} is not told"
    return float(found[1])


def test_certificates_and_refusals_are_counted_by_why() -> None:
    port = identity.Port()
    try:
        token = port.platform.add()
        port.enrol(token)
        assert refused(port, identity.token())[0] is grpc.StatusCode.UNAUTHENTICATED
        assert refused(port, token, csr="x")[0] is grpc.StatusCode.INVALID_ARGUMENT
        assert refused(port, token, validity_duration=10**9)[0] is grpc.StatusCode.INVALID_ARGUMENT
        counted = {
            "csr_count": 4,
            "success_cert_issuance_count": 1,
            "authentication_failure_count": 1,
            "csr_parsing_err_count": 2,
        }
        for name, number in counted.items():
            assert figure(port, f"citadel_server_{name}") == number, name
        for why in ("CSR_ERROR", "TTL_ERROR"):
            assert figure(port, "citadel_server_csr_sign_err_count", f'{{error="{why}"}}') == 1
        assert figure(port, "navarch_secure_refused_total", '{code="Unauthenticated"}') == 1
        assert figure(port, "navarch_certificate_seconds_count") == 4
    finally:
        port.close()


def test_an_operator_is_told_what_ends_when() -> None:
    """Root and signing certificate by the authority's files, the port's own by its life of a day."""
    port = identity.Port()
    try:
        told = identity.openssl("x509", "-noout", "-enddate", told=port.files["root-cert.pem"])
        ends = time.strptime(told.decode().strip(), "notAfter=%b %d %H:%M:%S %Y GMT")
        root = figure(port, "citadel_server_root_cert_expiry_timestamp")
        assert root == pytest.approx(calendar.timegm(ends), abs=1)
        assert figure(port, "citadel_server_cert_chain_expiry_timestamp") == root
        left = figure(port, "citadel_server_root_cert_expiry_seconds")
        assert left == pytest.approx(root - time.time(), abs=60)
        assert 0 < figure(port, "navarch_server_cert_expiry_seconds") <= 24 * 3600
    finally:
        port.close()

"""Certificates as others see them: TLS handshakes by OpenSSL with what was issued."""

from __future__ import annotations

import base64
import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from efaas_operator.installing.certificates import (
    Authority,
    Pair,
    issue,
    new_authority,
    pair_of,
    renewed_authority,
    renewed_server,
    secret_data,
)

NOW = datetime.now(UTC).replace(microsecond=0)
LIFE = timedelta(days=90)
NAMES = ["*.efaas-system.svc", "gateway"]


@pytest.fixture(scope="module")
def authority() -> Authority:
    return new_authority(NOW, timedelta(days=3650))


def _files(folder: Path, pair: Pair) -> tuple[str, str]:
    certificate, key = folder / "tls.crt", folder / "tls.key"
    certificate.write_bytes(pair.certificate)
    key.write_bytes(pair.key)
    return str(certificate), str(key)


def _handshake(folder: Path, pair: Pair, bundle: bytes, host: str) -> None:
    """A TLS connection over a pair of sockets; raises what the client's OpenSSL says."""
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(*_files(folder, pair))
    client_context = ssl.create_default_context(cadata=bundle.decode())
    server_end, client_end = socket.socketpair()

    def serve() -> None:
        try:
            server_context.wrap_socket(server_end, server_side=True).close()
        except OSError:
            server_end.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client_context.wrap_socket(client_end, server_hostname=host) as connection:
            assert connection.version() == "TLSv1.3"
    finally:
        client_end.close()
        thread.join()


@pytest.mark.parametrize("host", ["qpu-manila.efaas-system.svc", "gateway"])
def test_a_client_that_trusts_the_authority_accepts_a_server_by_its_names(tmp_path, authority, host):
    _handshake(tmp_path, issue(authority.pair, NAMES, NOW, LIFE), authority.bundle, host)


@pytest.mark.parametrize("host", ["qpu.other.svc", "a.b.efaas-system.svc", "efaas-system.svc"])
def test_other_names_are_refused(tmp_path, authority, host):
    with pytest.raises(ssl.SSLCertVerificationError, match=r"mismatch|not valid for"):
        _handshake(tmp_path, issue(authority.pair, NAMES, NOW, LIFE), authority.bundle, host)


def test_another_authoritys_server_is_refused(tmp_path, authority):
    other = new_authority(NOW, LIFE)
    with pytest.raises(ssl.SSLCertVerificationError):
        _handshake(tmp_path, issue(other.pair, NAMES, NOW, LIFE), authority.bundle, "gateway")


def test_a_certificate_that_has_ended_is_refused(tmp_path, authority):
    old = issue(authority.pair, NAMES, NOW - timedelta(days=2), timedelta(days=1))
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        _handshake(tmp_path, old, authority.bundle, "gateway")


def test_a_server_cannot_sign(tmp_path, authority):
    server = issue(authority.pair, NAMES, NOW, LIFE)
    forged = issue(server, ["gateway"], NOW, LIFE)
    chain = Pair(forged.certificate + server.certificate, forged.key)
    with pytest.raises(ssl.SSLCertVerificationError):
        _handshake(tmp_path, chain, authority.bundle, "gateway")


def test_a_server_is_renewed_when_two_thirds_of_its_life_are_over_and_not_before(authority):
    data = renewed_server({}, authority, NAMES, NOW, LIFE)
    assert data is not None
    assert renewed_server(data, authority, NAMES, NOW + timedelta(days=59), LIFE) is None
    later = renewed_server(data, authority, NAMES, NOW + timedelta(days=61), LIFE)
    assert later is not None
    assert later["tls.crt"] != data["tls.crt"]
    assert later["tls.key"] != data["tls.key"]


def test_other_names_another_authority_or_a_broken_secret_renew_a_server_at_once(authority):
    data = renewed_server({}, authority, NAMES, NOW, LIFE)
    assert data is not None
    assert renewed_server(data, authority, [*NAMES, "more"], NOW, LIFE) is not None
    assert renewed_server(data, new_authority(NOW, LIFE), NAMES, NOW, LIFE) is not None
    garbage = base64.b64encode(b"no certificate").decode()
    assert renewed_server({**data, "tls.crt": garbage}, authority, NAMES, NOW, LIFE) is not None
    assert renewed_server({**data, "ca.crt": garbage}, authority, NAMES, NOW, LIFE) is not None


def test_servers_of_the_authority_before_are_trusted_until_it_ends(tmp_path):
    life = timedelta(days=300)
    first = renewed_authority({}, NOW - timedelta(days=201), life)
    assert first is not None
    data = secret_data(first.pair, first.bundle)
    assert renewed_authority(data, NOW - timedelta(days=2), life) is None
    second = renewed_authority(data, NOW, life)
    assert second is not None
    assert second.pair.certificate != first.pair.certificate
    for signer in (first, second):
        _handshake(tmp_path, issue(signer.pair, NAMES, NOW, LIFE), second.bundle, "gateway")
    third = renewed_authority(secret_data(second.pair, second.bundle), NOW + timedelta(days=201), life)
    assert third is not None
    assert third.bundle.count(b"BEGIN CERTIFICATE") == 2  # the first has ended


def test_what_is_no_pair_of_ours_is_none():
    assert pair_of({}) is None
    assert pair_of({"tls.crt": "", "tls.key": ""}) is None

"""The stream and HTTP with a certificate: writers check it, and a renewed one is used without a restart."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from efaas_gateway.tls import Tls

from efaas.errors import InputError
from efaas.journal import open_journal
from efaas.journal.address import GatewayAddress
from efaas.journal.remote import GatewayJournal, GatewayUnavailable, Limits
from tests.gateway.running import TOKEN, RunningGateway


def make_certificate(folder: Path, name: str = "gateway.efaas.svc") -> Tls:
    """A certificate that is its own authority, for a name of a Service."""
    tls = Tls(folder / "tls.crt", folder / "tls.key")
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", str(tls.key_file), "-out", str(tls.cert_file), "-days", "2", "-subj", f"/CN={name}",
            "-addext", f"subjectAltName=DNS:{name}",
        ],
        check=True,
        capture_output=True,
    )  # fmt: skip
    return tls


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[RunningGateway, Tls]]:
    tls = make_certificate(tmp_path)
    gateway = RunningGateway(str(tmp_path / "gateway.db"), tls=tls)
    yield gateway, tls
    gateway.stop()


def test_writers_and_readers_check_the_certificate(
    served: tuple[RunningGateway, Tls], tmp_path: Path
) -> None:
    gateway, tls = served
    (tmp_path / "token").write_text(TOKEN)
    variables = {
        "EFAAS_GATEWAY": gateway.endpoint,
        "EFAAS_GATEWAY_TOKEN_FILE": str(tmp_path / "token"),
        "EFAAS_GATEWAY_CA_FILE": str(tls.cert_file),
        "EFAAS_GATEWAY_SERVER_NAME": "gateway.efaas.svc",
    }
    journal = open_journal(tmp_path / "journal", "session", "red/a", 1, variables)
    assert isinstance(journal, GatewayJournal)
    journal.append({"n": 1})
    assert list(journal.records()) == [{"n": 1}]
    journal.close()
    (tmp_path / "other").mkdir()
    stranger = make_certificate(tmp_path / "other")
    for address in (
        GatewayAddress(gateway.endpoint),
        GatewayAddress(gateway.endpoint, ca_file=str(stranger.cert_file), server_name="gateway.efaas.svc"),
        GatewayAddress(gateway.endpoint, ca_file=str(tls.cert_file), server_name="another.name"),
    ):
        with pytest.raises(GatewayUnavailable):
            GatewayJournal(
                address, "session", "red/b", buffer=tmp_path / "b", token=TOKEN, limits=Limits(connect_s=0.5)
            )
    with pytest.raises(InputError, match="cannot be read"):
        GatewayAddress(gateway.endpoint, ca_file=str(tmp_path / "none")).channel()


def served_certificate(gateway: RunningGateway) -> bytes:
    pem = ssl.get_server_certificate(("127.0.0.1", gateway.http_port))
    return ssl.PEM_cert_to_DER_cert(pem)


def test_a_renewed_certificate_is_used_and_a_broken_one_is_not(
    served: tuple[RunningGateway, Tls], tmp_path: Path
) -> None:
    gateway, tls = served
    certificates = gateway.gateway.certificates
    assert certificates is not None
    first = served_certificate(gateway)
    assert not certificates.look()
    tls.key_file.write_text("half a key")
    assert not certificates.look()
    assert served_certificate(gateway) == first
    make_certificate(tmp_path)
    assert certificates.look()
    second = served_certificate(gateway)
    assert second == ssl.PEM_cert_to_DER_cert(tls.cert_file.read_text())
    assert second != first
    # The stream has the new one too: a writer that trusts nothing else gets in.
    address = GatewayAddress(gateway.endpoint, ca_file=str(tls.cert_file), server_name="gateway.efaas.svc")
    with GatewayJournal(
        address, "session", "red/a", buffer=tmp_path / "b", token=TOKEN, limits=Limits(connect_s=20.0)
    ) as journal:
        journal.append({"n": 1})
    context = ssl.create_default_context(cafile=str(tls.cert_file))
    context.check_hostname = False
    answer = httpx.get(
        f"https://127.0.0.1:{gateway.http_port}/api/v1/about",
        headers={"Authorization": f"Bearer {TOKEN}"},
        verify=context,
    )
    assert answer.status_code == 200


def test_files_that_do_not_belong_together_are_refused_at_the_start(tmp_path: Path) -> None:
    tls = make_certificate(tmp_path)
    tls.key_file.write_text("")
    with pytest.raises(InputError, match="cannot be used"):
        tls.check()
    with pytest.raises(InputError, match="cannot be used"):
        Tls(tmp_path / "none", tls.key_file).check()

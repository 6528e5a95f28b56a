"""A QPU server with a certificate: TLS for all that is said, renewal in place, probes without TLS."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from efaas_operator.services.servers import QpuServers
from efaas_qpu.authentication import OpenDoor
from efaas_qpu.listening import certificate
from efaas_qpu.serve import Options, authenticator_for
from grpc_health.v1 import health_pb2, health_pb2_grpc

from efaas.api.wire import qpu_pb2 as wire
from efaas.client import QpuConnection, SessionIdentity, Trust
from efaas.client.describing import Describer
from efaas.errors import InputError, QpuUnavailable
from efaas.runner.connecting import trust_in
from efaas.runner.environment import QpuTarget
from tests.support.cluster import free_port

SYSTEM = "efaas-system"
NAME = f"qpu-manila.{SYSTEM}.svc"
START_S = 30.0
_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")


class Authority:
    """Signs certificates for `NAME`, as an installation's own does."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder, self.ca_file = folder, folder / "ca.crt"
        self._make("req", "-x509", *_NEW_KEY, "-nodes", "-days", "1", "-subj", "/CN=efaas test",
                   "-keyout", "ca.key", "-out", "ca.crt")  # fmt: skip

    def _make(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True)

    def sign(self, chain: Path, key: Path) -> None:
        """Write a new key and its certificate."""
        self._make("req", *_NEW_KEY, "-nodes", "-subj", "/CN=efaas", "-keyout", "new.key",
                   "-out", "new.csr")  # fmt: skip
        (self.folder / "names").write_text(f"subjectAltName=DNS:{NAME}\n")
        self._make("x509", "-req", "-in", "new.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
                   "-days", "1", "-extfile", "names", "-out", "new.crt")  # fmt: skip
        os.replace(self.folder / "new.key", key)
        os.replace(self.folder / "new.crt", chain)


class Serving:
    """`efaas-qpu serve` with a certificate."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder / "ca")
        self.chain, self.key = folder / "tls.crt", folder / "tls.key"
        self.authority.sign(self.chain, self.key)
        device = folder / "device.yaml"
        device.write_text(
            "apiVersion: efaas.dev/v1alpha1\nkind: QPUDevice\nmetadata: {name: manila}\n"
            "spec:\n  model: {snapshot: manila-5}\n  simulation: {noise: None}\n"
        )
        self.endpoint, self.health = (f"127.0.0.1:{free_port()}" for _ in range(2))
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "efaas_qpu", "serve",
                 f"--device={device}", f"--data={folder / 'data'}",
                 f"--listen={self.endpoint}", f"--health-listen={self.health}",
                 f"--tls-cert={self.chain}", f"--tls-key={self.key}"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def connect(self, trust: Trust | None, patience_s: float = START_S) -> QpuConnection:
        identity = SessionIdentity("team/loop", seed=7, trust=trust)
        return QpuConnection(self.endpoint, identity, patience_s=patience_s)


async def as_operator(serving: Serving, folder: Path) -> wire.DeviceState:
    """What the operator is told: it dials an address, and the certificate has another name."""
    token = folder / "token"
    token.write_text("any")
    address, _, port = serving.endpoint.rpartition(":")
    servers = QpuServers(
        token, serving.authority.ca_file, lambda device: f"qpu-{device}.{SYSTEM}.svc", int(port)
    )
    try:
        return await servers.describe("manila", address, ["team/loop"])
    finally:
        await servers.close()


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Serving]:
    serving = Serving(tmp_path)
    yield serving
    serving.process.kill()
    serving.process.wait()


@pytest.mark.integration
def test_streams_are_tls_and_certificates_are_renewed_in_place(serving: Serving, tmp_path: Path):
    with grpc.insecure_channel(serving.health) as channel:
        probe = health_pb2_grpc.HealthStub(channel)
        deadline = time.monotonic() + START_S
        while True:
            asked = probe.Check(health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=START_S)
            if asked.status == health_pb2.HealthCheckResponse.SERVING:
                break
            assert time.monotonic() < deadline, serving.log.read_text()
            time.sleep(0.05)
        describe: Any = channel.unary_unary("/efaas.qpu.v1alpha1.Qpu/Describe")
        with pytest.raises(grpc.RpcError) as caught:
            describe(wire.DescribeRequest().SerializeToString(), timeout=5)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED, "probes' port has nothing else"

    target = QpuTarget("manila", serving.endpoint, ca_file=serving.authority.ca_file, server_name=NAME)
    trust = trust_in(target)
    assert trust is not None
    with serving.connect(trust) as qpu:
        assert qpu.device.qubits == 5
    describer = Describer({"manila": trust})
    try:
        assert describer.ask({"manila": serving.endpoint})["manila"].view.qubits == 5
    finally:
        describer.close()

    told = asyncio.run(as_operator(serving, tmp_path))
    assert (told.device, told.charges[0].session) == ("manila", "team/loop")

    other = Authority(tmp_path / "other")
    for wrong in (None, Trust(other.ca_file, NAME), Trust(serving.authority.ca_file, "elsewhere.example")):
        with pytest.raises(QpuUnavailable):
            serving.connect(wrong, patience_s=0.5)

    # A new authority: who trusts it alone is believed as soon as the files were replaced.
    other.sign(serving.chain, serving.key)
    with serving.connect(Trust(other.ca_file, NAME)) as qpu:
        assert qpu.device.qubits == 5


def test_certificates_that_are_not_there_are_told(tmp_path: Path):
    assert certificate(None, None) is None
    with pytest.raises(InputError, match="both or neither"):
        certificate(tmp_path / "tls.crt", None)
    with pytest.raises(InputError, match="cannot be read"):
        certificate(tmp_path / "tls.crt", tmp_path / "tls.key")
    identity = SessionIdentity("team/loop", trust=Trust(tmp_path / "ca.crt"))
    with pytest.raises(QpuUnavailable, match="cannot be read"):
        QpuConnection("127.0.0.1:1", identity, patience_s=0.1)


def test_options_that_do_not_go_together_are_told(tmp_path: Path):
    options = {"device": tmp_path / "d", "data": tmp_path}
    with pytest.raises(InputError, match="one of them"):
        authenticator_for(Options(**options, kubernetes="https://k", token_file=tmp_path / "t"))
    with pytest.raises(InputError, match="other machines"):
        authenticator_for(Options(**options, listen="0.0.0.0:1"))
    assert isinstance(authenticator_for(Options(**options)), OpenDoor)
    authenticator = authenticator_for(Options(**options, listen="0.0.0.0:1", kubernetes="https://k"))
    assert not authenticator.tells_everyone

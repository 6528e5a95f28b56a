"""The server over real sockets: answers to the letter, and nothing that ends it."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from efaas_scheduler.configuration import Configuration, Tls
from efaas_scheduler.connection import Connection
from efaas_scheduler.decide import Decider
from efaas_scheduler.metrics import Metrics
from efaas_scheduler.serve import Extender, _request_factory, _server_tls
from efaas_scheduler.server import Server
from efaas_scheduler.standing import Standings
from efaas_scheduler.state import Change, Kind, Known
from efaas_scheduler.wire import ExtenderFilterResult, ExtenderPreemptionResult, HostPriority
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from tests.support import objects

RECORDED = Path(__file__).with_name("data")
NOW_S = 1_800_000_000.0


class Running:
    """A server in a thread of its own."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.known = Known(Standings(1800.0, {}))
        self.trouble = ""
        self.server = Server(
            Decider(self.known), Metrics(), lambda: self.trouble, request_time_s=0.5, clock=lambda: NOW_S
        )
        self.port = self.port_for_others = 0
        self._started = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))
        self._thread.start()
        self._started.wait(10)

    async def _serve(self) -> None:
        handler = web.Server(self.server.handle, request_factory=_request_factory(1 << 20), access_log=None)
        runner = web.ServerRunner(handler, shutdown_timeout=1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self._tls).start()
        self.port = runner.addresses[0][1]
        others = web.ServerRunner(web.Server(self.server.handle_from_elsewhere, access_log=None))
        await others.setup()
        await web.TCPSite(others, "127.0.0.1", 0).start()
        self.port_for_others = others.addresses[0][1]
        self._started.set()
        await self._stop.wait()
        await others.cleanup()
        await runner.cleanup()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()

    def ask(
        self, method: str, path: str, body: bytes | None = None, port: int | None = None
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=5)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    server = Running()
    for node, state in (("node-a", "Ready"), ("node-b", "Down")):
        server.known.handle(
            Kind.DEVICE, Change.PUT, objects.device(f"q-{node}", node, state=state, now_s=NOW_S), NOW_S
        )
    for name in ("low-a", "low-b", "urgent"):
        session = objects.as_stored(objects.session(name))
        server.known.handle(Kind.SESSION, Change.PUT, session, NOW_S)
    yield server
    server.close()


def recorded(name: str) -> bytes:
    return (RECORDED / f"{name}.json").read_bytes()


def test_others_get_metrics_and_probes_and_nothing_else(running: Running):
    port = running.port_for_others
    assert b"efaas_scheduler_staleness_seconds" in running.ask("GET", "/metrics", port=port)[1]
    assert running.ask("GET", "/healthz", port=port)[0] == 200
    assert running.ask("GET", "/readyz", port=port)[0] == 200
    assert running.ask("POST", "/filter", recorded("filter-request"), port)[0] == 404
    assert running.ask("GET", "/why?pod=default/low-a", port=port)[0] == 404
    assert running.ask("POST", "/metrics", b"", port)[0] == 405


def test_filter_answers_with_names_to_names(running: Running):
    status, body = running.ask("POST", "/filter", recorded("filter-request"))
    assert status == 200
    assert json.loads(body) == {
        "Nodes": None,
        "NodeNames": ["node-a"],
        "FailedNodes": {},
        "FailedAndUnresolvableNodes": {"node-b": "down"},
        "Error": "",
    }


def test_filter_answers_with_nodes_to_nodes_and_changes_nothing_in_them(running: Running):
    request = json.loads(recorded("filter-request-full-nodes"))
    status, body = running.ask("POST", "/filter", recorded("filter-request-full-nodes"))
    answer = json.loads(body)
    assert status == 200
    assert answer["NodeNames"] is None
    kept = [node for node in request["Nodes"]["items"] if node["metadata"]["name"] == "node-a"]
    assert answer["Nodes"]["items"] == kept
    assert answer["FailedAndUnresolvableNodes"] == {"node-b": "down"}


@pytest.mark.parametrize("form", ["prioritize-request", "prioritize-request-full-nodes"])
def test_prioritize_gives_whole_points_to_each_node_asked_about(running: Running, form: str):
    status, body = running.ask("POST", "/prioritize", recorded(form))
    assert status == 200
    answer = TypeAdapter(list[HostPriority]).validate_json(body)
    assert {entry.host: entry.score for entry in answer} == {"node-a": 10, "node-b": 0}


@pytest.mark.parametrize("form", ["preempt-request", "preempt-request-full-nodes"])
def test_preempt_keeps_victims_only_where_the_device_fits(running: Running, form: str):
    status, body = running.ask("POST", "/preempt", recorded(form))
    assert status == 200
    answer = ExtenderPreemptionResult.model_validate_json(body)
    assert set(answer.node_name_to_meta_victims) <= {"node-a"}
    for victims in answer.node_name_to_meta_victims.values():
        assert [bool(pod.uid) for pod in victims.pods or ()] == [True]


def test_old_state_fails_a_filter_in_words_and_is_not_ready(running: Running):
    running.trouble = "state is too old to decide on"
    try:
        status, body = running.ask("POST", "/filter", recorded("filter-request"))
        answer = ExtenderFilterResult.model_validate_json(body)
        assert (status, answer.error, answer.node_names) == (200, "state is too old to decide on", None)
        assert running.ask("GET", "/readyz") == (503, b"state is too old to decide on\n")
        assert running.ask("GET", "/healthz")[0] == 200
    finally:
        running.trouble = ""
    assert running.ask("GET", "/readyz")[0] == 200


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "EOF while parsing"),
        (b"{", "EOF while parsing"),
        (b"[]", "object"),
        (b'{"Pod":null,"NodeNames":[]}', "Pod"),
        (b'{"Pod":{"metadata":{"name":""}},"NodeNames":[]}', "Pod.metadata.name"),
        (b'{"Pod":{"metadata":{"name":"p"}},"NodeNames":[3]}', "NodeNames.0"),
        (b"[" * 100_000, "body"),
        (b"\xff\xfe", "body"),
    ],
)
@pytest.mark.parametrize("verb", ["filter", "prioritize", "preempt"])
def test_what_is_not_a_request_gets_a_400_that_says_where(
    running: Running, verb: str, body: bytes, words: str
):
    status, text = running.ask("POST", f"/{verb}", body)
    if verb == "preempt" and b"NodeNames" in body and b'"p"' in body:
        assert status == 200  # a preempt request has no NodeNames: the key is ignored
        return
    assert status == 400
    assert words in text.decode()


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)


def _places(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(document, dict | list):
        children = document.items() if isinstance(document, dict) else enumerate(document)
        for key, child in children:
            yield from _places(child, (*path, key))


@given(st.sampled_from(["filter", "prioritize", "preempt"]), st.data())
def test_no_request_ends_the_server(running: Running, verb: str, data: st.DataObject):
    document = json.loads(recorded(f"{verb}-request"))
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(list(_places(document))))
        junk = data.draw(JUNK)
        if not path:
            document = junk
            break
        target = document
        for key in path[:-1]:
            target = target[key]
        target[path[-1]] = junk
        if not isinstance(document, dict):
            break
    body = json.dumps(document).encode()
    cut = data.draw(st.just(len(body)) | st.integers(0, len(body)))
    status, text = running.ask("POST", f"/{verb}", body[:cut])
    assert status in (200, 400)
    if status == 200 and verb == "filter":
        answer = ExtenderFilterResult.model_validate_json(text)
        asked = document.get("NodeNames") or []
        assert set(answer.node_names or []) <= set(asked)
    assert running.ask("GET", "/healthz") == (200, b"ok\n")


@given(st.binary(max_size=200))
def test_bytes_that_are_not_http_end_nothing(running: Running, junk: bytes):
    with socket.create_connection(("127.0.0.1", running.port), timeout=5) as raw:
        raw.sendall(junk)
        raw.shutdown(socket.SHUT_WR)
        while raw.recv(4096):
            pass
    assert running.ask("GET", "/healthz")[0] == 200


def test_a_request_is_bounded_in_size_and_time(running: Running):
    assert running.ask("POST", "/filter", b" " * (2 << 20))[0] == 413
    with socket.create_connection(("127.0.0.1", running.port), timeout=5) as raw:
        raw.sendall(b"POST /filter HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")
        assert raw.recv(4096).startswith(b"HTTP/1.1 408")


def test_state_is_trusted_only_while_the_api_server_is_heard_of():
    extender = Extender(Configuration(), Connection("http://127.0.0.1:1", None))
    assert extender.trouble() == "not ready: QPUDevices have not been listed yet"
    for watch in extender.watches.values():
        watch.synced, watch.contact_s = True, time.monotonic()
    assert extender.trouble() == ""
    extender.watches[Kind.POD].contact_s = time.monotonic() - 75.0
    assert extender.trouble() == (
        "state is too old to decide on: no contact with the API server about Pods for 75 s, limit 60 s"
    )


def test_tls_is_served_with_a_certificate_that_is_checked(tmp_path: Path):
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"),
            *("-subj", "/CN=extender", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    server = Running(_server_tls(Tls(cert_file=str(certificate), key_file=str(key))))
    try:
        trusting = ssl.create_default_context(cafile=str(certificate))
        connection = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=5, context=trusting)
        connection.request("GET", "/healthz")
        assert connection.getresponse().read() == b"ok\n"
        connection.close()
        distrusting = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=5)
        with pytest.raises(ssl.SSLCertVerificationError):
            distrusting.request("GET", "/healthz")
        distrusting.close()
    finally:
        server.close()


def test_pages(running: Running):
    assert running.ask("GET", "/nowhere")[0] == 404
    assert running.ask("GET", "/filter")[0] == 405
    assert running.ask("POST", "/bind", b"{}")[0] == 404
    assert running.ask("GET", "/why?pod=ns/none")[0] == 404
    text = running.ask("GET", "/metrics")[1].decode()
    assert 'efaas_scheduler_handling_seconds_bucket{le="0.002",verb="filter"}' in text


def test_connections_are_kept_between_requests(running: Running):
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=5)
    connection.request("POST", "/filter", recorded("filter-request"))
    assert connection.getresponse().read()
    kept = connection.sock
    connection.request("POST", "/prioritize", recorded("prioritize-request"))
    assert connection.getresponse().read()
    assert connection.sock is kept
    connection.close()

"""The HTTP side: decode, ask the decider, encode.

kube-scheduler posts JSON to ``/filter``, ``/prioritize`` and ``/preempt`` and takes anything but a 200 as an
error. So a decision that cannot be made (the state is too old) is a 200 with `Error` in a filter's answer,
which fails the attempt and has it tried again; a request that is not understood is a 400. Every request is
bounded in size and time, and nothing in it can end the process.

``/healthz`` says that the process answers, ``/readyz`` that it knows the cluster and is in touch with it,
``/metrics`` is for Prometheus, and ``/why?pod=NAMESPACE/NAME`` explains a placement as JSON. The first
three may be served on an address of their own, where nothing is decided or explained.
"""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import time
from collections.abc import Callable

from aiohttp import web
from pydantic import ValidationError
from pydantic_core import to_json

from efaas_scheduler.decide import Decider, Filtered
from efaas_scheduler.metrics import Metrics
from efaas_scheduler.wire import (
    ExtenderArgs,
    ExtenderFilterResult,
    ExtenderPreemptionArgs,
    ExtenderPreemptionResult,
    NodeList,
)

_LOG = logging.getLogger(__name__)
_FOR_ANYBODY = ("/healthz", "/readyz", "/metrics")


class Server:
    """Answers kube-scheduler, probes and people.

    Args:
        decider: what decides.
        metrics: what is counted.
        trouble: why nothing can be decided now; empty if all is well.
        request_time_s: longest time for a request's body to arrive.
        clock: wall seconds.
    """

    def __init__(
        self,
        decider: Decider,
        metrics: Metrics,
        trouble: Callable[[], str],
        *,
        request_time_s: float = 5.0,
        before_metrics: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._decider = decider
        self._metrics = metrics
        self._trouble = trouble
        self._request_time_s = request_time_s
        self._before_metrics = before_metrics
        self._clock = clock
        self._verbs: dict[str, tuple[str, Callable[[bytes], tuple[bytes, str]]]] = {
            f"/{verb}": (verb, answer)
            for verb, answer in (
                ("filter", self.filter),
                ("prioritize", self.prioritize),
                ("preempt", self.preempt),
            )
        }
        self._handling = {verb: metrics.handling.labels(verb) for verb, _ in self._verbs.values()}

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        path = request.path
        verb_and_answer = self._verbs.get(path)
        if verb_and_answer is not None:
            if request.method != "POST":
                return _text(405, f"POST to {path}")
            verb, answer = verb_and_answer
            try:
                async with asyncio.timeout(self._request_time_s):
                    body = await request.read()
            except TimeoutError:
                return _text(408, "the request did not arrive in time")
            except web.HTTPRequestEntityTooLarge:
                self._count(verb, "bad_request")
                return _text(413, "the request is too large")
            return self._answered(verb, answer, body)
        if request.method not in ("GET", "HEAD"):
            return _text(404 if path not in (*_FOR_ANYBODY, "/why") else 405, "not here")
        return self._page(request)

    async def handle_from_elsewhere(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer those who are not in the pod: probes and collectors of metrics."""
        if request.path not in _FOR_ANYBODY:
            return _text(404, "not here")
        if request.method not in ("GET", "HEAD"):
            return _text(405, f"GET {request.path}")
        return self._page(request)

    def _answered(
        self, verb: str, answer: Callable[[bytes], tuple[bytes, str]], body: bytes
    ) -> web.StreamResponse:
        started = time.perf_counter()
        try:
            content, outcome = answer(body)
        except ValidationError as error:
            self._count(verb, "bad_request")
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            return _text(400, f"{where or 'body'}: {first['msg']}")
        except Exception:
            # Whatever it was, it was one request; kube-scheduler tries the pod again.
            self._count(verb, "error")
            _LOG.exception("request failed", extra={"verb": verb})
            return _text(500, "an error of the extender; its log says more")
        self._handling[verb].observe(time.perf_counter() - started)
        self._count(verb, outcome)
        return web.Response(body=content, content_type="application/json")

    def _page(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/healthz":
            return _text(200, "ok")
        if request.path == "/readyz":
            trouble = self._trouble()
            return _text(503, trouble) if trouble else _text(200, "ok")
        if request.path == "/metrics":
            self._before_metrics()
            page = self._metrics.page()
            return web.Response(
                body=page, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
            )
        if request.path == "/why":
            pod = request.query.get("pod", "")
            why = self._decider.why(pod, self._clock())
            if why is None:
                return _text(
                    404, f"no pod {pod[:512]!r} is known; give ?pod=NAMESPACE/NAME of a session's pod"
                )
            return web.Response(body=json.dumps(why, indent=1).encode(), content_type="application/json")
        return _text(404, "not here")

    def _count(self, verb: str, outcome: str) -> None:
        self._metrics.answers.labels(verb, outcome).inc()

    # --- verbs ------------------------------------------------------------------------------------

    def filter(self, body: bytes) -> tuple[bytes, str]:
        """Body of a filter request to body of its answer, and the outcome for the metrics."""
        args = ExtenderArgs.model_validate_json(body)
        trouble = self._trouble()
        if trouble:
            _LOG.warning("nothing decided", extra={"pod": args.pod.key, "reason": trouble})
            return _encoded(_result(error=trouble)), "error"
        names = args.names()
        answer = self._decider.filter_nodes(args.pod, names, self._clock())
        if answer.held_by:
            self._metrics.held.inc()
        nodes = None
        if args.nodes is not None and args.node_names is None:
            good = frozenset(answer.nodes)
            items = [node for node in args.nodes.items if node.metadata.name in good]
            nodes = NodeList(metadata=args.nodes.metadata, items=items)
        if not answer.nodes:
            _LOG.info(
                "no node fits",
                extra={"pod": args.pod.key, "asked": len(names), "reasons": _summary(answer)},
            )
        result = _result(nodes, answer.nodes if nodes is None else None, answer.failed, answer.unresolvable)
        return _encoded(result), "ok" if answer.nodes else "none"

    def prioritize(self, body: bytes) -> tuple[bytes, str]:
        """Body of a prioritize request to body of its answer, and the outcome."""
        args = ExtenderArgs.model_validate_json(body)
        names = args.names()
        points = self._decider.prioritize(args.pod, names, self._clock())
        if _LOG.isEnabledFor(logging.INFO) and names:
            best = max(points)
            first = min(name for name, point in zip(names, points, strict=True) if point == best)
            _LOG.info("ranked", extra={"pod": args.pod.key, "nodes": len(names), "best": first})
        return b"[" + b",".join(map(_priority, names, points)) + b"]", "ok"

    def preempt(self, body: bytes) -> tuple[bytes, str]:
        """Body of a preempt request to body of its answer, and the outcome."""
        args = ExtenderPreemptionArgs.model_validate_json(body)
        victims = args.victims()
        if self._trouble():
            victims = {}
        kept = self._decider.preemptable(args.pod, list(victims), self._clock())
        result = ExtenderPreemptionResult(node_name_to_meta_victims={name: victims[name] for name in kept})
        return _encoded(result), "ok" if kept else "none"


@functools.lru_cache(maxsize=1 << 17)
def _priority(name: str, points: int) -> bytes:
    """One entry of a HostPriorityList; there are eleven for each node."""
    return b'{"Host":%s,"Score":%d}' % (to_json(name), points)


def _result(
    nodes: NodeList | None = None,
    node_names: list[str] | None = None,
    failed: dict[str, str] | None = None,
    unresolvable: dict[str, str] | None = None,
    error: str = "",
) -> ExtenderFilterResult:
    """A filter's answer with every field given, so that none is left out; its parts are known to be good."""
    return ExtenderFilterResult.model_construct(
        nodes=nodes,
        node_names=node_names,
        failed_nodes=failed or {},
        failed_and_unresolvable_nodes=unresolvable or {},
        error=error,
    )


def _encoded(result: ExtenderFilterResult | ExtenderPreemptionResult) -> bytes:
    """JSON of an answer; objects inside that came with the request go back with what they came with."""
    return result.__pydantic_serializer__.to_json(result, by_alias=True, exclude_unset=True)


def _summary(answer: Filtered) -> dict[str, int]:
    counts: dict[str, int] = {}
    for reasons in (answer.failed, answer.unresolvable):
        for reason in reasons.values():
            counts[reason] = counts.get(reason, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: -item[1])[:10])


def _text(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=text + "\n")

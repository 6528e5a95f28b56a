"""The ASGI application: routes, errors as problem+json, limits on what comes in, headers on what goes out."""

from __future__ import annotations

import importlib.metadata
import time
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from efaas.errors import EfaasError, InputError, SessionEnded
from efaas_gateway.access import Access, Forbidden, Unauthenticated
from efaas_gateway.accounts import Accounts
from efaas_gateway.api import accounts as accounts_of_tenants
from efaas_gateway.api import devices, live, sessions, usage
from efaas_gateway.api.context import (
    AskingUser,
    Canceller,
    NotFound,
    RateLimiter,
    Services,
    TooMany,
)
from efaas_gateway.api.models import About, Problem
from efaas_gateway.hub import Hub
from efaas_gateway.store import Store

PAGE = Path(__file__).parent.parent / "page"
MAX_BODY_BYTES = 64 * 1024

_SECURITY = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def build_app(
    store: Store,
    access: Access,
    accounts: Accounts,
    hub: Hub,
    canceller: Canceller | None = None,
    limiter: RateLimiter | None = None,
) -> FastAPI:
    """Make the application.

    Args:
        store: to read from.
        access: who may read and cancel.
        accounts: what tenants used.
        hub: live changes.
        canceller: carries cancels; None: cancelling is refused.
        limiter: of requests.
    """
    problem = {"model": Problem, "content": {"application/problem+json": {}}}
    app = FastAPI(
        title="EFaaS gateway",
        description="Sessions, devices, queue and usage of EFaaS; see docs/gateway.md.",
        version=importlib.metadata.version("efaas"),
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.services = Services(store, access, accounts, hub, canceller, limiter or RateLimiter())
    shared: dict[int | str, dict[str, Any]] = {
        status: {**problem, "description": HTTPStatus(status).phrase}
        for status in (400, 401, 403, 404, 422, 429, 503)
    }
    for module in (sessions, devices, usage, live, accounts_of_tenants):
        app.include_router(module.router, prefix="/api/v1", responses=shared)

    @app.get("/api/v1/about", response_model=About, responses=shared, tags=["about"])
    async def about(asking: AskingUser) -> dict[str, Any]:
        """Who asks, and what that user may see."""
        seen = await asking.namespaces()
        return {
            "version": app.version,
            "user": asking.user.name,
            "namespaces": None if seen is None else sorted(seen),
            "now": time.time(),
        }

    @app.get("/healthz", include_in_schema=False)
    async def healthz() -> Response:
        return Response("ok", media_type="text/plain")

    @app.get("/readyz", include_in_schema=False)
    def readyz() -> Response:
        with store.read() as connection:
            connection.exec_driver_sql("SELECT 1")
        return Response("ok", media_type="text/plain")

    app.add_exception_handler(EfaasError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(HTTPException, _on_http)
    app.mount("/", StaticFiles(directory=PAGE, html=True), name="page")
    app.add_middleware(GZipMiddleware, minimum_size=2048)
    app.add_middleware(Guard)
    return app


def _problem(status: int, title: str, headers: dict[str, str] | None = None, **more: Any) -> Response:
    body = Problem(title=title, status=status, **more)
    return JSONResponse(
        body.model_dump(), status_code=status, headers=headers, media_type="application/problem+json"
    )


async def _on_error(request: Request, error: Exception) -> Response:
    del request
    assert isinstance(error, EfaasError)
    headers: dict[str, str] = {}
    if isinstance(error, Unauthenticated):
        status = HTTPStatus.UNAUTHORIZED
        headers["WWW-Authenticate"] = 'Bearer realm="efaas"'
    elif isinstance(error, Forbidden):
        status = HTTPStatus.FORBIDDEN
    elif isinstance(error, NotFound):
        status = HTTPStatus.NOT_FOUND
    elif isinstance(error, TooMany):
        status = HTTPStatus.TOO_MANY_REQUESTS
        headers["Retry-After"] = "1"
    elif isinstance(error, InputError | SessionEnded):
        status = HTTPStatus.BAD_REQUEST
    else:
        status = HTTPStatus.SERVICE_UNAVAILABLE
        headers["Retry-After"] = "2"
    return _problem(
        status,
        status.phrase,
        headers,
        detail=error.message,
        code=error.code,
        place=error.place,
        retry=error.retry,
    )


async def _on_validation(request: Request, error: Exception) -> Response:
    del request
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    status = HTTPStatus.UNPROCESSABLE_ENTITY
    place = ".".join(str(part) for part in first.get("loc", ()))
    return _problem(
        status, status.phrase, detail=str(first.get("msg", "")), code="BadInput", place=place[:200]
    )


async def _on_http(request: Request, error: Exception) -> Response:
    del request
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    headers = dict(error.headers) if error.headers else None
    return _problem(
        status, status.phrase, headers, detail=str(error.detail), code=status.phrase.replace(" ", "")
    )


class Guard:
    """Refuses large requests before they are read, and sets the headers that keep browsers careful."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if (
            len(length) > 18
            or not length.isdigit()
            or int(length) > MAX_BODY_BYTES
            or len(scope["path"]) > 2048
        ):
            refusal = _problem(413, "Content Too Large", detail="the request is too large", code="TooLarge")
            await refusal(scope, receive, send)
            return
        got = 0

        async def bounded() -> Any:
            nonlocal got
            message = await receive()
            got += len(message.get("body", b""))
            if got > MAX_BODY_BYTES:
                raise HTTPException(413, "the request is too large")
            return message

        async def secured(message: Any) -> None:
            if message["type"] == "http.response.start":
                names = {name.lower() for name, _ in message["headers"]}
                more = [
                    (name.lower().encode(), value.encode())
                    for name, value in _SECURITY.items()
                    if name.lower().encode() not in names
                ]
                if b"cache-control" not in names:
                    kind = b"no-store" if scope["path"].startswith("/api/") else b"no-cache"
                    more.append((b"cache-control", kind))
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        await self._app(scope, bounded, secured)

"""The HTTP API: reading everything, live updates, cancelling, and the page.

`build_app` makes the ASGI application. Its OpenAPI document (``/openapi.json``) is the contract; errors are
``application/problem+json`` (RFC 9457). Readers show a bearer token; who may see which namespace is
`efaas_gateway.access`.
"""

from efaas_gateway.api.app import build_app

__all__ = ["build_app"]

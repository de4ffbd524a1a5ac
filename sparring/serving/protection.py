"""Refuse requests that come from elsewhere, and set the headers that keep a page by itself.

The server listens on 127.0.0.1, but any page in the browser can send requests there: by its own
name that resolves to 127.0.0.1 (DNS rebinding, seen in Host), or across sites (seen in Origin).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..runtime.extras import import_extra

HOSTS = ("127.0.0.1", "localhost", "[::1]")
EXTRA, PURPOSE = "serve", "sparring serve"
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}

Scope = dict[str, Any]
Call = Callable[..., Any]


def refusal(method: str, headers: Mapping[str, str]) -> str | None:
    """Return why a request is refused, or None; the header names are in small letters.

    A program such as curl sends neither Origin nor Sec-Fetch-Site, and passes. A browser cannot
    leave them out.

    >>> refusal("GET", {"host": "127.0.0.1:8000"})
    >>> refusal("GET", {"host": "evil.example:8000"})
    'host: this server answers to 127.0.0.1 and localhost only'
    """
    host = headers.get("host", "")
    if _name(host) not in HOSTS:
        return "host: this server answers to 127.0.0.1 and localhost only"
    origin = headers.get("origin")
    if origin is not None and origin != f"http://{host}":
        return "origin: only this server's own page may send requests"
    # "none" is an address that the person typed; a link from elsewhere may open the page, too.
    opened = method == "GET" and headers.get("sec-fetch-mode") == "navigate"
    if headers.get("sec-fetch-site", "none") not in ("same-origin", "none") and not opened:
        return "origin: only this server's own page may send requests"
    return None


def _name(host: str) -> str:
    """Return a host without its port."""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdecimal() else host).lower()


class Protection:
    """Wrap an ASGI application: check every request, and add `HEADERS` to every response."""

    def __init__(self, app: Call) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Call, send: Call) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
                return
            await send({"type": "websocket.close", "code": 1008})
            return

        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                extra = [(k.lower().encode(), v.encode()) for k, v in HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", []), *extra]}
            await send(message)

        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        why = refusal(scope["method"], headers)
        app = self.app if why is None else _json(why)
        await app(scope, receive, send_with_headers)


def _json(why: str) -> Call:
    responses = import_extra("starlette.responses", extra=EXTRA, purpose=PURPOSE)
    return responses.JSONResponse({"error": why}, status_code=403)


async def read_body(request: Any, *, limit: int) -> bytes:
    """Return the body of a request of at most `limit` bytes; a longer one is not read to its end.

    Raises:
        ValueError: for a longer one, or one that breaks off as the browser leaves.
    """
    left = import_extra("starlette.requests", extra=EXTRA, purpose=PURPOSE).ClientDisconnect
    parts, size = [], 0
    if (length := request.headers.get("content-length", "")).isdecimal():
        size_check(int(length), limit)
    try:
        async for part in request.stream():
            size += len(part)
            size_check(size, limit)
            parts.append(part)
    except left:
        raise ValueError("the request broke off") from None
    return b"".join(parts)


class TooLarge(ValueError):
    """Refuse a body that is longer than its limit."""


def size_check(size: int, limit: int) -> None:
    """Raise `TooLarge` for more than `limit` bytes."""
    if size > limit:
        raise TooLarge(f"the request is larger than {limit:,} bytes, the most that is read")

"""Define the routes of the page: each reads a request, calls the session, and writes JSON."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib import resources
from typing import Any

from ..runtime.extras import import_extra
from .jobs import Busy
from .protection import EXTRA, PURPOSE, Protection, TooLarge, read_body
from .session import Missing, Session

MAX_PICTURE = 16 * 2**20  # bytes of an upload
MAX_REQUEST = 2**14  # bytes of any other request
PICTURE_TYPES = ("image/", "application/octet-stream")
FILES = {"": "text/html", "page.css": "text/css", "page.js": "text/javascript"}
STATUS = {Busy: 409, Missing: 404, TooLarge: 413, ValueError: 400}


def make_app(session: Session) -> Any:
    """Return the ASGI application of a session: the page, and what the page asks for.

    Raises:
        ValueError: if Starlette is missing.
    """
    applications, routing, concurrency = (
        import_extra(f"starlette.{name}", extra=EXTRA, purpose=PURPOSE)
        for name in ("applications", "routing", "concurrency")
    )
    responses = import_extra("starlette.responses", extra=EXTRA, purpose=PURPOSE)

    def answered(call: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Return a route that writes what `call` returns, or its error, as JSON."""

        async def route(request: Any) -> Any:
            try:
                return responses.JSONResponse(await call(request))
            except tuple(STATUS) as error:
                return _failure(error)

        return route

    def _failure(error: Exception) -> Any:
        status = next(code for kind, code in STATUS.items() if isinstance(error, kind))
        body = {"error": str(error)}
        if isinstance(error, Busy) and error.job is not None:
            body["job"] = error.job.id
        return responses.JSONResponse(body, status_code=status)

    in_thread = concurrency.run_in_threadpool  # Pillow and torch would stop all other requests

    async def about(request: Any) -> Any:
        return session.about()

    async def upload(request: Any) -> Any:
        _require_type(request, *PICTURE_TYPES)
        content = await read_body(request, limit=MAX_PICTURE)
        name = request.query_params.get("name", "") or "the picture"
        return await in_thread(session.upload, content, name)

    async def sample(request: Any) -> Any:
        body = await _table(request)
        return await in_thread(session.sample, body.get("model", 0), body.get("row"))

    async def attack(request: Any) -> Any:
        job = await in_thread(session.attack, await _table(request))
        return {"job": job.id}

    async def progress(request: Any) -> Any:
        after = _whole(request.query_params.get("after", ""), default=0)
        return await in_thread(session.progress, request.path_params["job"], after)

    async def cancel(request: Any) -> Any:
        body = await _table(request)
        session.cancel(str(body.get("job")))
        return {}

    async def download(request: Any) -> Any:
        row = _whole(request.path_params["row"], default=-1)
        try:
            name, content = session.download(request.path_params["job"], row)
        except Missing as error:
            return _failure(error)
        disposition = {"Content-Disposition": f'attachment; filename="{name}"'}
        return responses.Response(content, media_type="image/png", headers=disposition)

    def page(name: str, kind: str) -> Any:
        content = (
            resources.files("sparring.serving") / "page" / (name or "page.html")
        ).read_bytes()

        async def file(request: Any) -> Any:
            return responses.Response(content, media_type=kind)

        return routing.Route(f"/{name}", file)

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        yield
        await in_thread(session.runner.close)

    routes = [
        *(page(name, kind) for name, kind in FILES.items()),
        routing.Route("/about", answered(about)),
        routing.Route("/picture", answered(upload), methods=["POST"]),
        routing.Route("/sample", answered(sample), methods=["POST"]),
        routing.Route("/attack", answered(attack), methods=["POST"]),
        routing.Route("/cancel", answered(cancel), methods=["POST"]),
        routing.Route("/job/{job}", answered(progress)),
        routing.Route("/adversarial/{job}/{row}.png", download),
    ]
    return Protection(applications.Starlette(routes=routes, lifespan=lifespan))


def _require_type(request: Any, *allowed: str) -> None:
    """Raise `ValueError` for a content type that a form of another site could send."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not kind.startswith(allowed):
        raise ValueError(f"content-type = {kind[:80]!r} is not allowed: send {allowed[0]}")


def _whole(text: str, *, default: int) -> int:
    """Return a whole number of an address; the default for another text, or a far longer one."""
    return int(text) if text.isdecimal() and len(text) < 9 else default


async def _table(request: Any) -> dict[str, Any]:
    """Return the JSON table of a request.

    Raises:
        ValueError: for another content type, or for what is no table of JSON.
    """
    _require_type(request, "application/json")
    try:
        body = json.loads(await read_body(request, limit=MAX_REQUEST))
    except TooLarge:
        raise
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise ValueError("the request is no table of JSON")
    return body

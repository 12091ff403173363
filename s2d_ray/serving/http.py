"""The HTTP side of a gateway: OpenAI's API, and the experiment's page with its buttons and its feedback."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from secrets import token_urlsafe
from typing import Any
from uuid import uuid4

from pydantic import ValidationError
from pydantic_core import from_json
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from s2d_ray.errors import UserError
from s2d_ray.experiment.events import Feedback
from s2d_ray.experiment.experiment import OutOfDate
from s2d_ray.experiment.page import content_security_policy
from s2d_ray.experiment.request_ids import Asker
from s2d_ray.recipes.strict import parse
from s2d_ray.serving.admission import Refused
from s2d_ray.serving.auth import Access, Denied, Forbidden, LoginNeeded, network_of
from s2d_ray.serving.context import RequestContext
from s2d_ray.serving.gateway import Gateway
from s2d_ray.serving.protocol import (
    MAX_USER,
    BadRequest,
    ChatRequest,
    CompletionRequest,
    JsonObject,
    NoSuchModel,
    TextRequest,
    chunk,
    completion_body,
    error_body,
    last_chunks,
    model_body,
    models_body,
    sent_event,
)
from s2d_ray.serving.router import Failed, Router

USER_HEADER = "x-s2d-user"
COOKIE = "s2d_user"
"""Names a browser that gave no user, so that it keeps its arm. Random, and used for nothing else."""
COOKIE_SECONDS = 180 * 86400
BODY_SECONDS = 30.0
"""In which a whole body has to come."""
RESTART_SECONDS = 5
"""To be waited when an engine is gone and a new one starts."""


class TooLarge(Exception):
    """The body is larger than the server takes."""


class TooSlow(Exception):
    """The body did not come in time."""


PAGE_HEADERS = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer", "cache-control": "no-store"}
"""Of /ab, which shows what users said."""


class NotJson(UserError):
    """The body is not what the content type must say."""


def build_app(gateway: Gateway, access: Access, max_body: int) -> Starlette:
    """The ASGI application. It opens the gateway when it starts and closes it when it ends."""
    created = int(time.time())

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await gateway.open()
        yield
        await gateway.close()

    async def healthz(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def models(request: Request) -> Response:
        access.check_ask(request.headers)
        return JSONResponse(models_body(created))

    async def model(request: Request) -> Response:
        access.check_ask(request.headers)
        return JSONResponse(model_body(request.path_params["name"], created))

    async def answer(request: Request, body: type[CompletionRequest]) -> Response:
        access.check_ask(request.headers)
        asked = parse(body, await _json(request, max_body), where="request")
        if asked.s2d.trace:
            access.check_trace(request.headers)
        asker = _asker(request, access, asked.user or asked.safety_identifier)
        context = gateway.router.assign(asked, asker)
        response = await (_streamed if asked.stream else _whole)(gateway.router, context)
        if not asker.named:
            response.set_cookie(COOKIE, asker.user, COOKIE_SECONDS, httponly=True, samesite="lax")
        return response

    async def feedback(request: Request) -> Response:
        access.check_ask(request.headers)
        said = parse(Feedback, await _json(request, max_body), where="feedback")
        gateway.feedback.take(said, _asker(request, access, said.user))
        return JSONResponse({"status": "stored"})

    async def page(request: Request) -> Response:
        access.check_look(request.headers)
        nonce = token_urlsafe(16)
        headers = {**PAGE_HEADERS, "content-security-policy": content_security_policy(nonce)}
        return HTMLResponse(await gateway.experiment.page(nonce), headers=headers)

    async def change(request: Request) -> Response:
        access.check_change(request.headers)
        state = await gateway.experiment.change(await _json(request, max_body))
        return JSONResponse({"version": state.version, "status": state.status})

    return Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/v1/models", models),
            Route("/v1/models/{name:path}", model),
            Route("/v1/chat/completions", partial(answer, body=ChatRequest), methods=["POST"]),
            Route("/v1/completions", partial(answer, body=TextRequest), methods=["POST"]),
            Route("/ab", page),
            Route("/ab/feedback", feedback, methods=["POST"]),
            Route("/ab/change", change, methods=["POST"]),
        ],
        exception_handlers=dict.fromkeys(
            (Denied, TooLarge, TooSlow, UserError, Refused, Failed, HTTPException, OSError, Exception), _answered
        ),
        lifespan=lifespan,
    )


async def _whole(router: Router, context: RequestContext) -> Response:
    answer = await router.answer(context)
    return JSONResponse(completion_body(context.request_id, context.request, int(context.received), answer))


async def _streamed(router: Router, context: RequestContext) -> Response:
    pieces: asyncio.Queue[str | None] = asyncio.Queue()
    answering = asyncio.ensure_future(router.answer(context, pieces.put_nowait))
    answering.add_done_callback(lambda _: pieces.put_nowait(None))
    try:
        # What goes wrong before the first text still has a status of its own.
        first = await pieces.get()
        if first is None:
            await answering
    except BaseException:
        answering.cancel()
        raise

    async def events() -> AsyncIterator[bytes]:
        named = context.request_id, context.request, int(context.received)
        piece = first
        try:
            yield chunk(*named, piece or "", first=True)
            while piece is not None:
                piece = await pieces.get()
                if piece is not None:
                    yield chunk(*named, piece)
            answer = await answering
            if first is None:
                yield chunk(*named, answer.text)
            yield last_chunks(*named, answer)
        except (Refused, Failed, UserError) as error:
            yield sent_event(_described(error)[0])
        finally:
            # A client that goes away ends its generation.
            answering.cancel()

    headers = {"cache-control": "no-cache", "x-accel-buffering": "no"}
    return StreamingResponse(events(), media_type="text/event-stream", headers=headers)


def _asker(request: Request, access: Access, user: str | None = None) -> Asker:
    """Who asks, by that name where the body has one. Raises BadRequest for a name that is too long."""
    known = user or request.headers.get(USER_HEADER) or request.cookies.get(COOKIE)
    if known and len(known) > MAX_USER:
        raise BadRequest(f"a user's name has {MAX_USER} characters at most", "user")
    key, address = access.key_of(request.headers), request.client.host if request.client else ""
    return Asker(known or uuid4().hex, bool(known), key or network_of(address), key)


async def _json(request: Request, max_body: int) -> dict[str, Any]:
    """The body as a JSON object. Raises TooLarge, TooSlow or UserError."""
    # Other sites cannot make a browser send this content type without asking first.
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise NotJson("the content type must be application/json")
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                body += part
                if len(body) > max_body:
                    raise TooLarge(f"the body is larger than {max_body} bytes")
    except TimeoutError as error:
        raise TooSlow(f"the body did not come within {BODY_SECONDS:g} s") from error
    try:
        # Lone surrogates, numbers that are none, and what is nested deeper than 200 levels are no JSON to it.
        content = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise UserError(f"the body is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise UserError("the body is not a JSON object")
    return content


STATUS: Sequence[tuple[type[Exception], int, str, str | None]] = (
    (Forbidden, 403, "permission_error", None),
    (Denied, 401, "authentication_error", "invalid_api_key"),
    (TooSlow, 408, "invalid_request_error", None),
    (TooLarge, 413, "invalid_request_error", None),
    (NotJson, 415, "invalid_request_error", None),
    (NoSuchModel, 404, "invalid_request_error", None),
    (OutOfDate, 409, "conflict_error", None),
    (UserError, 400, "invalid_request_error", None),
)
"""Kind of error → status, and OpenAI's type and code; the code of a BadRequest is its own."""


async def _answered(_: Request, error: Exception) -> Response:
    return _error(*_described(error))


def _described(error: Exception) -> tuple[JsonObject, int, Mapping[str, str]]:
    """Body, status and headers of what an error is answered with."""
    match error:
        case Refused():
            code = "rate_limit_exceeded" if error.status == 429 else None
            return error_body(str(error), "rate_limit_error", None, code), error.status, _again(error.retry_after)
        case Failed():
            headers = _again(RESTART_SECONDS) if error.status == 503 else {}
            return error_body(str(error), "server_error"), error.status, headers
        case OSError():
            said = f"what is stored cannot be reached: {error.strerror or type(error).__name__}"
            return error_body(said, "server_error"), 503, _again(RESTART_SECONDS)
        case LoginNeeded():
            return error_body(str(error), "authentication_error"), 401, {"www-authenticate": 'Basic realm="s2d"'}
        case HTTPException():  # No such address, or not by this method.
            return error_body(error.detail, "invalid_request_error"), error.status_code, error.headers or {}
    for known, status, kind, code in STATUS:
        if isinstance(error, known):
            own = getattr(error, "code", None)
            return error_body(str(error), kind, _param(error), own or code), status, {}
    # What it says may quote a prompt.
    return error_body("the server failed", "server_error"), 500, {}


def _param(error: Exception) -> str | None:
    """The field that is at fault, where it is known."""
    cause = error.__cause__
    if isinstance(cause, ValidationError):
        return ".".join(map(str, cause.errors()[0]["loc"])) or None
    return getattr(error, "param", None)


def _again(seconds: int) -> Mapping[str, str]:
    return {"retry-after": str(seconds)}


def _error(body: JsonObject, status: int, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse(body, status, headers)

"""A recommender over HTTP: the application, its limits and its metrics."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final, final

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.routing import APIRoute
from fastapi_offline import FastAPIOffline
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector
from pydantic import ValidationError
from pydantic.json_schema import models_json_schema
from pydantic_core import to_json
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse

from evorec.data.ids import Id, json_id
from evorec.errors import DataError
from evorec.serving.limits import Limits
from evorec.serving.messages import (
    Info,
    ItemMessage,
    RecommendRequest,
    RecommendResponse,
    Refusal,
    RowsRequest,
    RowsResponse,
    ScoreRequest,
    ScoreResponse,
    Status,
    mistakes,
    request_models,
)
from evorec.serving.queries import Item, ListOptions, User
from evorec.serving.rows import RowScorer
from evorec.serving.slot import Slot

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from evorec.serving.recommender import Recommender
    from evorec.serving.slot import Model

BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Of the histogram of latencies."""
LINGER_S: Final = 1.0
"""How long the rest of a refused body is read and dropped: closing at once could lose the response."""
MOST_BODIES: Final = 200
"""Bodies that are read at the same time; see `evorec.serving.connections.MOST_IDLE`."""
NOTHING_LEFT: Final = (
    "no item is left: the user has met every item that this request allows, or it is excluded; seen = true lists items "
    "that were met"
)
RETRY: Final = {"Retry-After": "1"}
CLOSE: Final = {"Connection": "close"}
JSON: Final = "application/json"
POST_REFUSALS: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": Refusal, "description": text}
    for status, text in {
        408: "The body did not arrive in time.",
        413: "The body is larger than this server accepts.",
        415: "The body is not declared as application/json.",
        422: "The body is not JSON, violates the schema or a limit, or names something unknown to the model.",
        503: "No bundle is loaded, or too many requests are waiting; retry after Retry-After seconds.",
    }.items()
}
NOT_READY: Final[dict[int | str, dict[str, Any]]] = {
    503: {"model": Refusal, "description": "No bundle is loaded, or the server is stopping."}
}


def build_app(slot: Slot, limits: Limits | None = None, *, ids_as_text: bool = False, root_path: str = "") -> FastAPI:
    """The application. Its page /docs needs no other server.

    Args:
        slot: has the current recommender; it may be empty, and its recommender may be replaced at any time. With a
            scorer of rows in it, the application has /score for rows and no /recommend.
        limits: of a request.
        ids_as_text: whether all ids of responses are texts, not only numbers that JSON may round.
        root_path: prefix of all paths at a proxy in front, such as ``/shop``.
    """
    service = _Service(slot, limits or Limits(), str if ids_as_text else json_id)
    app = FastAPIOffline(
        redoc_url=None, title="evorec", version=version("evorec"), summary="Recommendations from a bundle.",
        swagger_ui_parameters={"validatorUrl": None},  # the validator is another server
    )  # fmt: skip
    for route in app.routes:  # the page is a route of FastAPI, which has no HEAD by itself
        if isinstance(route, APIRoute) and route.path == "/docs":
            route.methods = {"GET", "HEAD"}
    posts: tuple[tuple[str, Callable[..., Any], type[Any], type[Any]], ...] = (
        ("/recommend", service.recommend, service.recommend_request, RecommendResponse),
        ("/score", service.score, service.score_request, ScoreResponse),
    )
    if isinstance(slot.current, RowScorer):
        posts = (("/score", service.score_rows, service.rows_request, RowsResponse),)
        app.add_api_route("/recommend", _no_lists, methods=["POST"], include_in_schema=False)
    for path, handler, model, answer in posts:
        schema = {"$ref": f"#/components/schemas/{model.__name__}"}
        app.add_api_route(
            path, handler, methods=["POST"], operation_id=path[1:], summary=path[1:].capitalize(), response_model=None,
            responses={200: {"model": answer}, **POST_REFUSALS},
            openapi_extra={"requestBody": {"required": True, "content": {JSON: {"schema": schema}}}},
        )  # fmt: skip
    gets: tuple[tuple[Callable[..., Any], dict[str, Any]], ...] = (
        (service.health, {"response_model": Status}),
        (service.ready, {"response_model": Status, "responses": NOT_READY}),
        (service.info, {"response_model": Info, "responses": NOT_READY}),
        (service.metrics, {"response_class": PlainTextResponse}),
    )
    for handler, settings in gets:
        name = handler.__name__
        app.add_api_route(f"/{name}", handler, operation_id=name, **settings)
        app.add_api_route(f"/{name}", handler, methods=["HEAD"], include_in_schema=False, **settings)

    without_bodies = app.openapi

    def openapi() -> dict[str, Any]:
        """With the schemas of the bodies, which FastAPI does not know because `_Service` reads them."""
        document = without_bodies()
        models = [(model, "validation") for _, _, model, _ in posts]
        _, found = models_json_schema(models, ref_template="#/components/schemas/{model}")  # type: ignore[arg-type]
        document["components"]["schemas"].update(found["$defs"])
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # the documented way to extend the schema
    app.add_middleware(_Watch, slot=slot, figures=service.figures, root_path=root_path)
    app.add_exception_handler(StarletteHTTPException, _refused)
    return app


async def _no_lists() -> Response:
    """The answer of a table of rows to a request for lists."""
    raise HTTPException(
        404, "this bundle is of a table of rows, which has no items to recommend; POST /score predicts rows"
    )


async def _refused(request: Request, error: Exception) -> Response:
    """All refusals have the same shape; the rest of an unread body is dropped."""
    assert isinstance(error, StarletteHTTPException)
    detail: Any = error.detail
    refusal = detail if isinstance(detail, dict) else {"error": detail, "details": []}
    kind = _LastResponse if (error.headers or {}).get("Connection") == "close" else Response
    return kind(to_json(refusal), error.status_code, error.headers, JSON)


@final
class _LastResponse(Response):
    """A response that closes the connection while the client may still be sending."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        if not any(name == b"expect" for name, _ in scope["headers"]):  # such a client sends no body unless asked to
            try:
                async with asyncio.timeout(LINGER_S):
                    while (await receive()).get("more_body"):
                        pass
            except TimeoutError:
                pass
        await send({"type": "http.response.body", "body": b""})


@final
class _Service:
    """The handlers of the routes."""

    def __init__(self, slot: Slot, limits: Limits, outside: Callable[[Id], Id]) -> None:
        self.limits = limits
        self.figures = _Figures(slot)
        self.recommend_request, self.score_request, self.rows_request = request_models(limits)
        self._slot = slot
        self._pool = ThreadPoolExecutor(limits.workers, thread_name_prefix="evorec request")
        self._outside = outside
        self._busy = self._reading = 0

    async def recommend(self, request: Request) -> Response:
        """The best items of each user."""
        return await self._answered(request, self._lists)

    async def score(self, request: Request) -> Response:
        """Predictions for a user and some items."""
        return await self._answered(request, self._scores)

    async def score_rows(self, request: Request) -> Response:
        """Predictions for rows of features."""
        return await self._answered(request, self._row_predictions)

    async def _answered(self, request: Request, work: Callable[[bytes, Any], bytes]) -> Response:
        """Read a body, within its limits, and answer it with the current recommender in a thread of the pool."""
        body = await self._read(request)
        found = self._found()
        if self._busy >= self.limits.workers + self.limits.queue:
            raise HTTPException(503, f"{self._busy} requests are waiting already", RETRY)
        self._busy += 1
        try:
            made = await asyncio.get_running_loop().run_in_executor(self._pool, work, body, found)
        except ValidationError as error:
            raise HTTPException(422, {"error": "the request is not valid", "details": mistakes(error)}) from None
        except DataError as error:
            raise HTTPException(422, str(error)) from None
        finally:
            self._busy -= 1
        return Response(made, media_type=JSON)

    def _lists(self, body: bytes, found: Recommender) -> bytes:
        """Lists as JSON."""
        asked: RecommendRequest = self.recommend_request.model_validate_json(body)
        users = [User(**dict(user)) for user in asked.users]
        options = ListOptions(asked.k, asked.seen, asked.where, asked.only, asked.mmr)
        lists = found.recommend(users, **vars(options))
        self.figures.lists.inc(len(lists))
        answers = []
        for user, best in zip(users, lists, strict=True):
            items = [
                {"item": self._outside(item), "score": score, **({"shown": shown} if shown else {})}
                for (item, score), shown in zip(best, found.show([item for item, _ in best], asked.show), strict=True)
                if math.isfinite(score)
            ]
            id_ = None if user.id is None else self._outside(user.id)
            note = {} if best else {"note": NOTHING_LEFT}
            answers.append({"user": id_, "known": found.knows(user.id), "items": items, **note})
        unknown = {
            what: values if what.startswith("where.") else list(map(self._outside, values))
            for what, values in found.unknown(users, options).items()
        }
        return to_json({"version": found.version, "lists": answers, "unknown": unknown}, inf_nan_mode="null")

    def _scores(self, body: bytes, found: Recommender) -> bytes:
        """Predictions as JSON."""
        asked: ScoreRequest = self.score_request.model_validate_json(body)
        items = [Item(**dict(item)) if isinstance(item, ItemMessage) else item for item in asked.items]
        values = found.score(User(**dict(asked.user)), items)
        self.figures.scored.inc(len(values))
        return to_json({
            "version": found.version,
            "items": [
                {
                    "item": self._outside(item.id if isinstance(item, ItemMessage) else item),
                    "score": value["score"],
                    "predictions": {task: value[task] for task in found.tasks},
                }
                for item, value in zip(asked.items, values, strict=True)
            ],
        }, inf_nan_mode="null")  # fmt: skip

    def _row_predictions(self, body: bytes, found: RowScorer) -> bytes:
        """Predictions of rows as JSON."""
        asked: RowsRequest = self.rows_request.model_validate_json(body)
        predictions = found.score(asked.rows)
        self.figures.scored.inc(len(predictions))
        return to_json({"version": found.version, "rows": predictions})

    async def health(self) -> Status:
        """Whether the process is alive, independent of the bundle."""
        return Status(status="alive")

    async def ready(self) -> Status:
        """Whether the server accepts requests."""
        if self._slot.stopping:
            raise HTTPException(503, "the server is stopping")
        return Status(status="ready", version=self._found().version)

    async def info(self) -> Response:
        """The served bundle and the limits."""
        found = self._found()
        about = {key: found.manifest[key] for key in ("problem", "member", "metrics", "versions")}
        more: dict[str, Any] = {"version": found.version, "tasks": found.tasks, "limits": asdict(self.limits)}
        if isinstance(found, RowScorer):
            more |= {"users": 0, "items": 0, "k": 0, "shown": [], "features": found.features}
        else:
            more |= {"users": found.n_users, "items": found.n_items, "k": found.k, "shown": list(found.shown)}
        return Response(to_json({**about, **more}, inf_nan_mode="null"), media_type=JSON)

    async def metrics(self) -> Response:
        """Metrics for Prometheus."""
        return Response(generate_latest(self.figures.registry), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    def _found(self) -> Model:
        found = self._slot.current
        if found is None:
            raise HTTPException(503, "no bundle is loaded", RETRY)
        return found

    async def _read(self, request: Request) -> bytes:
        """The whole body; an invalid body is refused as early as possible."""

        def refused(status: int, error: str) -> HTTPException:
            return HTTPException(status, error, CLOSE)

        kind = request.headers.get("content-type", "")
        if kind.partition(";")[0].strip().lower() != JSON:
            raise refused(415, f"the body must be declared as {JSON}, got content-type {kind[:100]!r}")
        most = self.limits.body_bytes
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > most:
            raise refused(413, f"the body must have at most {most} bytes, got {declared[:20]}")
        if self._reading >= MOST_BODIES:
            raise HTTPException(503, f"{self._reading} requests are being received already", RETRY | CLOSE)
        body = bytearray()
        self._reading += 1
        try:
            async with asyncio.timeout(self.limits.read_s):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > most:
                        raise refused(413, f"the body must have at most {most} bytes, got more")
        except TimeoutError:
            raise refused(408, f"the body must arrive within {self.limits.read_s:g} s") from None
        except ClientDisconnect:
            raise refused(400, "the body ended early") from None
        finally:
            self._reading -= 1
        return bytes(body)


@final
class _Figures(Collector):
    """The metrics for Prometheus."""

    def __init__(self, slot: Slot) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "evorec_requests", "Requests answered, by route and status.", ("route", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "evorec_request_seconds", "Time from a request's head to the end of its response.", ("route",),
            buckets=BUCKETS_S, registry=self.registry,
        )  # fmt: skip
        self.in_flight = Gauge("evorec_requests_in_flight", "Requests being answered.", registry=self.registry)
        self.lists = Counter("evorec_lists", "Lists made for users.", registry=self.registry)
        self.scored = Counter("evorec_scored_items", "Items or rows scored by /score.", registry=self.registry)
        ProcessCollector(registry=self.registry)
        self._slot = slot
        self.registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """The state of the slot at the time of the call."""
        slot, found = self._slot, self._slot.current
        yield CounterMetricFamily("evorec_bundle_swaps", "Bundles loaded after the first.", slot.swaps)
        yield CounterMetricFamily("evorec_bundles_refused", "Bundles that could not be used.", slot.refused)
        yield GaugeMetricFamily("evorec_ready", "1 while the server accepts requests.", float(slot.ready))
        yield GaugeMetricFamily("evorec_bundle_loaded_timestamp_seconds", "Time of the last load.", slot.loaded_at)
        if found is not None:
            about = {key: str(found.manifest[key]) for key in ("problem", "member")}
            yield InfoMetricFamily("evorec_bundle", "The served bundle.", {"version": found.version, **about})


@final
class _Watch:
    """Counts and times every request, and closes connections once the server is stopping.

    A path may have the prefix of the proxy in front or not.
    """

    def __init__(self, app: ASGIApp, *, slot: Slot, figures: _Figures, root_path: str) -> None:
        self._app, self._slot, self._figures, self._root_path = app, slot, figures, root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"].removeprefix(self._root_path)
        scope["path"], scope["root_path"] = self._root_path + path, self._root_path
        status, start = 500, time.perf_counter()

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if self._slot.stopping:
                    MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        self._figures.in_flight.inc()
        try:
            await self._app(scope, receive, watched)
        finally:
            self._figures.in_flight.dec()
            route = path if path in ROUTES else "other"
            self._figures.requests.labels(route, status).inc()
            self._figures.seconds.labels(route).observe(time.perf_counter() - start)


ROUTES: Final = ("/recommend", "/score", "/health", "/ready", "/info", "/metrics")
"""Routes with metrics of their own; other paths are counted together, so that a scanner cannot fill the memory."""

"""A recommender over HTTP: the application, its limits, and what it tells of itself."""

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
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector
from pydantic import ValidationError
from pydantic.json_schema import models_json_schema
from pydantic_core import to_json
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse

from evorec.errors import DataError
from evorec.serving.messages import (
    Info,
    ItemMessage,
    Limits,
    RecommendRequest,
    RecommendResponse,
    Refusal,
    ScoreRequest,
    ScoreResponse,
    Status,
    mistakes,
    request_models,
)
from evorec.serving.slot import Slot

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from evorec.serving.recommender import Recommender

BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Of the histogram of latencies."""
LINGER_S: Final = 1.0
"""How long the rest of a refused body is read and dropped: a connection closed at once would lose the answer."""
RETRY_S: Final = 1
JSON: Final = "application/json"

Responses = dict[int | str, dict[str, Any]]
"""What FastAPI wants to know of the answers of a route, by status."""


def build_app(slot: Slot, limits: Limits | None = None) -> FastAPI:
    """The application.

    Args:
        slot: holds the recommender; it may be empty, and may be given another one at any time.
        limits: how much a request may ask for.
    """
    service = _Service(slot, limits or Limits())
    app = FastAPI(title="evorec", version=version("evorec"), summary="Recommendations from one bundle.")
    bodies = request_models(service.limits)
    _add_routes(app, service, *bodies)
    _describe_bodies(app, *bodies)
    app.add_middleware(_Watch, slot=slot, figures=service.figures)
    app.add_exception_handler(AnyHTTPException, _refused)
    return app


def _add_routes(app: FastAPI, service: _Service, recommend: type[RecommendRequest], score: type[ScoreRequest]) -> None:
    mistaken = {
        408: "The body did not arrive in time.",
        413: "The body is larger than this server accepts.",
        415: "The body is not declared as application/json.",
        422: "The body is no JSON, breaks the schema or a limit, or names what the model does not have.",
        503: "No bundle is loaded, or too many requests wait already; come back after Retry-After seconds.",
    }
    refusals: Responses = {status: {"model": Refusal, "description": text} for status, text in mistaken.items()}
    ready: Responses = {503: {"model": Refusal, "description": "No bundle is loaded, or the server is stopping."}}

    async def answer_recommend(request: Request) -> Response:
        """The best items of each user."""
        return await service.answer(request, lambda body, found: service.recommend(recommend, body, found))

    async def answer_score(request: Request) -> Response:
        """What the model predicts of a user and some items."""
        return await service.answer(request, lambda body, found: service.score(score, body, found))

    def post(path: str, handler: Any, answer: Any, body: type[RecommendRequest] | type[ScoreRequest]) -> None:
        app.add_api_route(
            path, handler, methods=["POST"], operation_id=path[1:], summary=path[1:].capitalize(), response_model=None,
            responses={200: {"model": answer}, **refusals}, openapi_extra=_body_of(body),
        )  # fmt: skip

    def get(path: str, handler: Any, answer: Any, responses: Responses) -> None:
        app.add_api_route(path, handler, operation_id=path[1:], response_model=answer, responses=responses)

    post("/recommend", answer_recommend, RecommendResponse, recommend)
    post("/score", answer_score, ScoreResponse, score)
    get("/health", service.health, Status, {})
    get("/ready", service.ready, Status, ready)
    get("/info", service.info, Info, ready)
    app.add_api_route("/metrics", service.metrics, operation_id="metrics", response_class=PlainTextResponse)


def _body_of(model: type[RecommendRequest] | type[ScoreRequest]) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{model.model_config['title']}"}
    return {"requestBody": {"required": True, "content": {JSON: {"schema": schema}}}}


def _describe_bodies(app: FastAPI, *models: type[RecommendRequest] | type[ScoreRequest]) -> None:
    """Adds the schemas of bodies to the OpenAPI document: they are read by us, so FastAPI does not know them."""
    without = app.openapi

    def openapi() -> dict[str, Any]:
        document = without()
        _, found = models_json_schema([(m, "validation") for m in models], ref_template="#/components/schemas/{model}")
        titles = {model.__name__: str(model.model_config["title"]) for model in models}
        document["components"]["schemas"].update({titles.get(n, n): s for n, s in found["$defs"].items()})
        return document

    app.openapi = openapi  # type: ignore[method-assign]


async def _refused(request: Request, error: Exception) -> Response:
    """Every refusal has the same shape; one that comes before the body was read to its end drops the rest."""
    assert isinstance(error, AnyHTTPException)
    detail: Any = error.detail
    refusal = detail if isinstance(detail, dict) else {"error": detail, "details": []}
    kind = _LastAnswer if (error.headers or {}).get("Connection") == "close" else Response
    return kind(to_json(refusal), error.status_code, error.headers, JSON)


@final
class _LastAnswer(Response):
    """An answer that closes the connection, whose client may be in the middle of sending."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        await send(start)
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        if not any(name == b"expect" for name, _ in scope["headers"]):  # that one waits to be asked for its body
            try:
                async with asyncio.timeout(LINGER_S):
                    while (await receive()).get("more_body"):
                        pass
            except TimeoutError:
                pass
        await send({"type": "http.response.body", "body": b""})


@final
class _Service:
    """What the routes do."""

    def __init__(self, slot: Slot, limits: Limits) -> None:
        self.limits = limits
        self.figures = _Figures(slot)
        self._slot = slot
        self._pool = ThreadPoolExecutor(limits.workers, thread_name_prefix="evorec request")
        self._busy = 0

    async def answer(self, request: Request, work: Callable[[bytes, Recommender], bytes]) -> Response:
        """Read a body, within its limits, and answer it from one recommender in one of the threads."""
        body = await self._read(request)
        found = self._found()
        if self._busy >= self.limits.workers + self.limits.queue:
            raise HTTPException(503, f"{self._busy} requests are waiting already", {"Retry-After": str(RETRY_S)})
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

    def recommend(self, model: type[RecommendRequest], body: bytes, found: Recommender) -> bytes:
        """Lists as JSON."""
        asked = model.model_validate_json(body)
        users = [user.query() for user in asked.users]
        lists = found.recommend(users, k=asked.k, seen=asked.seen, where=asked.where, only=asked.only, mmr=asked.mmr)
        self.figures.lists.inc(len(lists))
        return to_json({
            "version": found.version,
            "lists": [
                {
                    "user": user.id,
                    "known": user.id is not None and found.knows(user.id),
                    "items": [{"item": item, "score": score} for item, score in best if math.isfinite(score)],
                }
                for user, best in zip(users, lists, strict=True)
            ],
        })  # fmt: skip

    def score(self, model: type[ScoreRequest], body: bytes, found: Recommender) -> bytes:
        """Predictions as JSON."""
        asked = model.model_validate_json(body)
        items = [item.query() if isinstance(item, ItemMessage) else item for item in asked.items]
        values = found.score(asked.user.query(), items)
        self.figures.scored.inc(len(values))
        return to_json({
            "version": found.version,
            "items": [
                {
                    "item": item.id if isinstance(item, ItemMessage) else item,
                    "score": one["score"],
                    "predictions": {task: one[task] for task in found.tasks},
                }
                for item, one in zip(asked.items, values, strict=True)
            ],
        }, inf_nan_mode="null")  # fmt: skip

    async def health(self) -> Status:
        """Whether the process lives; it says nothing of the bundle."""
        return Status(status="alive")

    async def ready(self) -> Status:
        """Whether requests should come here."""
        if self._slot.stopping:
            raise HTTPException(503, "the server is stopping")
        return Status(status="ready", version=self._found().version)

    async def info(self) -> Response:
        """What is served and what is accepted."""
        found = self._found()
        manifest = found.manifest
        told = {key: manifest[key] for key in ("problem", "member", "metrics", "versions")}
        counts = {"users": found.n_users, "items": found.n_items}
        more = {"version": found.version, "tasks": found.tasks, "k": found.k, "limits": asdict(self.limits)}
        return Response(to_json({**told, **counts, **more}, inf_nan_mode="null"), media_type=JSON)

    async def metrics(self) -> Response:
        """Figures for Prometheus."""
        return Response(generate_latest(self.figures.registry), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    def _found(self) -> Recommender:
        found = self._slot.current
        if found is None:
            raise HTTPException(503, "no bundle is loaded", {"Retry-After": str(RETRY_S)})
        return found

    async def _read(self, request: Request) -> bytes:
        """The body, as soon as it is whole; a refusal as soon as it is known not to be one."""
        kind = request.headers.get("content-type", "")
        if kind.partition(";")[0].strip().lower() != JSON:
            raise _last(415, f"the body must be declared as {JSON}, got content-type {kind[:100]!r}")
        most = self.limits.body_bytes
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > most:
            raise _last(413, f"the body must have at most {most} bytes, got {declared[:20]}")
        body = bytearray()
        try:
            async with asyncio.timeout(self.limits.read_s):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > most:
                        raise _last(413, f"the body must have at most {most} bytes, got more")
        except TimeoutError:
            raise _last(408, f"the body must arrive within {self.limits.read_s:g} s") from None
        except ClientDisconnect:
            raise _last(400, "the body ended early") from None
        return bytes(body)


def _last(status: int, error: str) -> HTTPException:
    return HTTPException(status, error, {"Connection": "close"})


@final
class _Figures(Collector):
    """What Prometheus is told."""

    def __init__(self, slot: Slot) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "evorec_requests", "Requests answered, by route and status.", ("route", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "evorec_request_seconds", "Time from a request's head to the end of its answer.", ("route",),
            buckets=BUCKETS_S, registry=self.registry,
        )  # fmt: skip
        self.in_flight = Gauge("evorec_requests_in_flight", "Requests being answered.", registry=self.registry)
        self.lists = Counter("evorec_lists", "Lists made, one per user.", registry=self.registry)
        self.scored = Counter("evorec_scored_items", "Items scored by /score.", registry=self.registry)
        ProcessCollector(registry=self.registry)
        self._slot = slot
        self.registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """The figures of the slot, read when they are asked for."""
        slot, found = self._slot, self._slot.current
        yield CounterMetricFamily("evorec_bundle_swaps", "Bundles put in after the first.", slot.swaps)
        yield CounterMetricFamily("evorec_bundles_refused", "Bundles that could not be used.", slot.refused)
        yield GaugeMetricFamily("evorec_ready", "1 while requests should come here.", float(slot.ready))
        yield GaugeMetricFamily("evorec_bundle_loaded_timestamp_seconds", "When it was put in.", slot.loaded_at)
        if found is not None:
            about = {key: str(found.manifest[key]) for key in ("problem", "member")}
            yield InfoMetricFamily("evorec_bundle", "What is served.", {"version": found.version, **about})


@final
class _Watch:
    """Counts and times every request, and closes connections once the server is stopping."""

    def __init__(self, app: ASGIApp, *, slot: Slot, figures: _Figures) -> None:
        self._app = app
        self._slot = slot
        self._figures = figures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, begun = 500, time.perf_counter()

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
            route = scope["path"] if scope["path"] in ROUTES else "other"
            self._figures.requests.labels(route, status).inc()
            self._figures.seconds.labels(route).observe(time.perf_counter() - begun)


ROUTES: Final = ("/recommend", "/score", "/health", "/ready", "/info", "/metrics")
"""Whose figures are kept apart; whatever else is asked for counts as one, lest a scanner fill the memory."""

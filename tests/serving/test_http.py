"""The application: what it answers, what it refuses before a recommender sees it, and what it tells of itself."""

import asyncio
import json
import math
import re
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from serving.stand_in import StandIn, load_stand_in
from starlette.testclient import TestClient

from evorec.serving.http import build_app
from evorec.serving.limits import Limits
from evorec.serving.messages import LONGEST_TEXT, LONGEST_VECTOR, MOST_IDS, MOST_NAMES, MOST_VALUES
from evorec.serving.queries import Item, User
from evorec.serving.slot import Slot

LIMITS = Limits(body_bytes=200_000, batch=3, k=10, items=4, workers=2, queue=1, read_s=0.2)
MANY = 10_000
"""Chunks of a body that never ends by itself."""
JSON = {"Content-Type": "application/json"}
BIG = 653_247_040_368_672_007
"""As a float it is another whole number."""


class Served:
    """An application over a stand-in, and the ways to ask it."""

    def __init__(self, recommender=None, limits=LIMITS, **options):
        self.slot = Slot(Path("nowhere"), load_stand_in)
        self.slot.current = recommender
        self.app = build_app(self.slot, limits, **options)
        self.client = TestClient(self.app)

    def post(self, path, body):
        return self.client.post(path, content=body if isinstance(body, str | bytes) else json.dumps(body), headers=JSON)

    def get(self, path):
        return self.client.get(path)

    def figure(self, name, **labels):
        for family in text_string_to_metric_families(self.get("/metrics").text):
            for sample in family.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    return sample.value
        return None


@pytest.fixture
def served():
    return Served(StandIn())


def strict(response):
    """JSON as the standard has it: no NaN, no Infinity."""

    def refuse(name):
        raise AssertionError(f"{name} in {response.text}")

    return json.loads(response.text, parse_constant=refuse)


def test_lists_have_the_order_of_the_request(served):
    response = served.post("/recommend", {"users": [{"id": 4}, {"id": "new"}, {}], "k": 2})
    assert response.status_code == 200
    items = [{"item": 0, "score": 0}, {"item": 1, "score": -1}]
    assert strict(response) == {
        "version": "v0",
        "lists": [
            {"user": 4, "known": True, "items": items},
            {"user": "new", "known": False, "items": items},
            {"user": None, "known": False, "items": items},
        ],
        "unknown": {},
    }


def test_every_field_of_a_request_reaches_the_recommender(served):
    user = {
        "id": "x", "liked": [1, "b"], "features": {"age": 31, "tags": ["a", 2, None], "height": 1.5, "is_new": True},
        "context": {"hour": 3}, "exclude": [7],
    }  # fmt: skip
    more = {"k": 3, "seen": True, "where": {"genre": ["drama", 2]}, "only": [1, 2, 3], "mmr": 0.25}
    assert served.post("/recommend", {"users": [user], **more}).status_code == 200
    (asked,) = served.slot.current.asked
    assert asked == {"users": [User(**user)], **more}


def test_omitted_fields_have_the_defaults_of_the_recommender(served):
    served.post("/recommend", {"users": [{"id": 1}]})
    nothing = {"k": None, "seen": False, "where": None, "only": None, "mmr": None}
    assert served.slot.current.asked == [{"users": [User(1, [], {}, {}, [])], **nothing}]


def test_scores_have_the_order_of_the_request(served):
    response = served.post("/score", {"user": {"id": 1}, "items": [3, {"id": 99, "features": {"genre": "drama"}}]})
    assert response.status_code == 200
    values = {"score": 1.0, "predictions": {"click": 0.5, "like": 0.25}}
    assert strict(response) == {"version": "v0", "items": [{"item": 3, **values}, {"item": 99, **values}]}


def test_a_new_item_reaches_the_recommender_with_its_content(served):
    seen = []
    served.slot.current.score = lambda user, items: seen.append((user, items)) or [{"click": 0, "like": 0, "score": 0}]
    served.post("/score", {"user": {"id": 1}, "items": [{"id": "a", "content": {"title": [0.5, -1]}}]})
    assert seen == [(User(1, [], {}, {}, []), [Item("a", {}, {"title": [0.5, -1.0]})])]


USERS = '{"users":[{"id":1}]'
BAD_BODIES = {
    "no JSON": ("{", "body", "Invalid JSON"),
    "nothing": ("", "body", "Invalid JSON"),
    "a list": ("[]", "body", "an object"),
    "bytes that are no text": (b'{"users":[{"id":"\xff"}]}', "body", "Invalid JSON"),
    "half a surrogate": (r'{"users":[{"id":"\ud800"}]}', "body", "Invalid JSON"),
    "too deep": ('{"users":' + "[" * 50_000 + "]" * 50_000 + "}", "body", "recursion limit"),
    "a number of 5,000 digits": ('{"users":[{"id":1' + "0" * 5000 + "}]}", "body", "out of range"),
    "no users": ('{"k":3}', "users", "required"),
    "nobody": ('{"users":[]}', "users", "at least 1"),
    "too many users": ({"users": [{"id": 1}] * 4}, "users", "at most 3"),
    "k too long": (USERS + ',"k":11}', "k", "less than or equal to 10"),
    "k of 0": (USERS + ',"k":0}', "k", "greater than or equal to 1"),
    "k as text": (USERS + ',"k":"3"}', "k", "integer"),
    "k with a point": (USERS + ',"k":3.5}', "k", "integer"),
    "seen as a number": (USERS + ',"seen":1}', "seen", "boolean"),
    "an unknown setting": (USERS + ',"n":3}', "n", "not permitted"),
    "an unknown word for a user": ('{"users":[{"ID":1}]}', "users.0.ID", "not permitted"),
    "an id that JavaScript rounds": ('{"users":[{"id":653247040368672007}]}', "users.0.id", "must be a text, such as"),
    "an id beyond exact floats": ('{"users":[{"id":-9007199254740992}]}', "users.0.id", "9007199254740991 must be a"),
    "a large liked item": ('{"users":[{"liked":["x",9007199254740992]}]}', "users.0.liked.1", "must be a text"),
    "a large item to choose": ('{"users":[{}],"only":[18446744073709551616]}', "only.0", "must be a text"),
    "a boolean id": ('{"users":[{"id":true}]}', "users.0.id", "integer"),
    "an id with a point": ('{"users":[{"id":1.0}]}', "users.0.id", 'such as 7 or "7", not a float'),
    "a large id with a point": ('{"users":[{"id":653247040368672000.0}]}', "users.0.id", "not a float"),
    "an id with an exponent": ('{"users":[{"exclude":[1e17]}]}', "users.0.exclude.0", "not a float"),
    "a long id": ({"users": [{"id": "x" * (LONGEST_TEXT + 1)}]}, "users.0.id", "at most 256 characters"),
    "NaN": ('{"users":[{"features":{"age":NaN}}]}', "users.0.features.age", "finite"),
    "infinity": ('{"users":[{"features":{"age":-Infinity}}]}', "users.0.features.age", "finite"),
    "a number that is infinity": ('{"users":[{"features":{"age":1e999}}]}', "users.0.features.age", "finite"),
    "beyond single precision": (
        '{"users":[{"features":{"age":1e39}}]}',
        "users.0.features.age",
        "equal to 1" + "0" * 30,
    ),
    "a nested feature": ('{"users":[{"features":{"age":{"y":1}}}]}', "users.0.features.age", "number"),
    "a feature twice nested": ('{"users":[{"features":{"age":[[1]]}}]}', "users.0.features.age.0", "number"),
    "too many liked": ({"users": [{"liked": [1] * (MOST_IDS + 1)}]}, "users.0.liked", "at most 10000"),
    "too many excluded": ({"users": [{"exclude": [1] * (MOST_IDS + 1)}]}, "users.0.exclude", "at most 10000"),
    "too many to choose from": ({"users": [{}], "only": [1] * (MOST_IDS + 1)}, "only", "at most 10000"),
    "too many filters": ({"users": [{}], "where": {str(n): [1] for n in range(MOST_NAMES + 1)}}, "where", "at most"),
    "too many values": ({"users": [{}], "where": {"a": [1] * (MOST_VALUES + 1)}}, "where.a", "at most 1000"),
    "mmr above 1": (USERS + ',"mmr":1.5}', "mmr", "less than or equal to 1"),
}


@pytest.mark.parametrize(("body", "where", "expected"), BAD_BODIES.values(), ids=BAD_BODIES)
def test_a_bad_request_is_refused_before_the_recommender_sees_it(served, body, where, expected):
    response = served.post("/recommend", body)
    assert response.status_code == 422
    refusal = strict(response)
    assert refusal["error"] == "the request is not valid"
    mistake = next(one for one in refusal["details"] if one["where"] == where)
    assert expected in mistake["expected"]
    assert mistake["got"]
    assert served.slot.current.asked == []


BAD_SCORES = {
    "no items": ([], "items", "at least 1"),
    "too many": ([1] * 5, "items", "at most 4"),
    "a vector too long": ([{"id": 1, "content": {"t": [0.5] * (LONGEST_VECTOR + 1)}}], "items.0.content.t", "at most"),
    "a vector of texts": ([{"id": 1, "content": {"t": ["0.5"]}}], "items.0.content.t.0", "number"),
    "an item without id": ([{"features": {}}], "items.0.id", "required"),
}


@pytest.mark.parametrize(("items", "where", "expected"), BAD_SCORES.values(), ids=BAD_SCORES)
def test_a_bad_score_request_is_refused(served, items, where, expected):
    response = served.post("/score", {"user": {"id": 1}, "items": items})
    assert response.status_code == 422
    assert any(one["where"] == where and expected in one["expected"] for one in response.json()["details"])


def test_ids_that_programs_round_are_texts_in_both_directions():
    for as_text in (False, True):
        served = Served(StandIn(first=BIG), ids_as_text=as_text)
        users = [{"id": str(BIG)}, {"id": 7}, {}]
        found = served.post("/recommend", {"users": users, "k": 1, "only": [str(BIG), 7]}).json()
        assert [one["user"] for one in found["lists"]] == [str(BIG), "7" if as_text else 7, None]
        assert found["unknown"] == {"only": [str(BIG)]}
        found = served.post("/recommend", {"users": [{}], "k": 1}).json()
        assert found["lists"][0]["items"][0]["item"] == str(BIG)
        (scored,) = served.post("/score", {"user": {"id": "7"}, "items": [7]}).json()["items"]
        assert scored["item"] == ("7" if as_text else 7)


def test_lists_show_columns_of_the_items_and_name_unknown_items(served):
    users = [{"liked": [1, "x"], "exclude": [0, "y", 99]}]
    found = served.post("/recommend", {"users": users, "k": 2, "only": [0, 1, 2, "z"], "show": ["title"]}).json()
    assert [one["shown"] for one in found["lists"][0]["items"]] == [{"title": "title 1"}, {"title": "title 2"}]
    assert found["unknown"] == {"liked": ["x"], "exclude": ["y", 99], "only": ["z"]}
    assert served.get("/info").json()["shown"] == ["title"]
    refused = served.post("/recommend", {"users": [{}], "show": ["year"]})
    assert (refused.status_code, refused.json()["error"]) == (422, "the bundle holds no column 'year'")


def test_an_empty_list_has_a_note(served):
    full, empty = strict(served.post("/recommend", {"users": [{}, {"exclude": [3]}], "only": [3]}))["lists"]
    assert "note" not in full
    assert (empty["items"], empty["note"].partition(":")[0]) == ([], "no item is left")


def test_head_has_the_headers_of_get(served):
    for path in ("/health", "/ready", "/info"):
        get, head = served.get(path), served.client.head(path)
        assert (head.status_code, head.headers["content-length"]) == (200, get.headers["content-length"])
    assert {served.client.head(path).status_code for path in ("/metrics", "/docs", "/openapi.json")} == {200}
    served.slot.stop()
    assert (served.client.head("/ready").status_code, served.client.head("/health").status_code) == (503, 200)


@pytest.mark.parametrize("root", ["", "/shop/v1"])
def test_the_documentation_needs_no_other_server_and_knows_its_prefix(root):
    served = Served(StandIn(), root_path=root)
    page = served.get("/docs").text
    assert re.findall(r"""(?:https?:)?//[^"'\s]+""", page) == []
    assert '"validatorUrl": null' in page  # else the page would send the schema to a validator
    links = re.findall(r"""(?:href|src)="([^"]+)"|url: '([^']+)'""", page)
    paths = [one or other for one, other in links]
    assert len(paths) == 4
    for path in paths:
        assert path.startswith(f"{root}/")
        for asked in (path, path.removeprefix(root)):  # a proxy may pass on the prefix or not
            assert served.get(asked).status_code == 200
    assert served.get(f"{root}/openapi.json").json().get("servers", [{"url": ""}]) == [{"url": root}]
    assert served.get("/redoc").status_code == 404
    assert served.get(f"{root}/health").status_code == 200
    assert served.figure("evorec_requests_total", route="/health", status="200") == 1


def test_bodies_that_arrive_slowly_do_not_keep_others_out(served, monkeypatch):
    monkeypatch.setattr("evorec.serving.http.MOST_BODIES", 0)
    refused = served.post("/recommend", {"users": [{}]})
    assert (refused.status_code, refused.headers["retry-after"], refused.headers["connection"]) == (503, "1", "close")
    assert served.get("/health").status_code == 200


def test_a_refusal_of_many_mistakes_stays_short(served):
    response = served.post("/recommend", {"users": [{"liked": [None] * 10_000}]})
    assert response.status_code == 422
    assert len(response.json()["details"]) == 20
    assert len(response.content) < 10_000


@pytest.mark.parametrize(
    ("path", "body", "error"),
    [
        ("/recommend", {"users": [{}], "where": {"color": ["red"]}}, "no item feature is called 'color'"),
        ("/score", {"user": {}, "items": [99]}, "item 99 is new; give its features."),
    ],
)
def test_errors_of_the_recommender_are_passed_on(served, path, body, error):
    response = served.post(path, body)
    assert response.status_code == 422
    assert error in response.json()["error"]


def test_limits_themselves_are_within_the_limits(served):
    ids = list(range(MOST_IDS))
    response = served.post("/recommend", {"users": [{"id": "x" * LONGEST_TEXT, "liked": ids}, {}, {}], "k": 10})
    assert response.status_code == 200
    assert [len(one["items"]) for one in response.json()["lists"]] == [10, 10, 10]
    for number in (2**53 - 1, -(2**53) + 1):
        assert served.post("/recommend", {"users": [{"id": number}]}).json()["lists"][0]["user"] == number


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonx"])
def test_another_content_type_is_refused(served, kind):
    response = served.client.post("/recommend", content='{"users":[{}]}', headers={"Content-Type": kind})
    assert response.status_code == 415
    assert "application/json" in response.json()["error"]


def test_a_content_type_may_name_its_charset(served):
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert served.client.post("/recommend", content='{"users":[{}]}', headers=headers).status_code == 200


def test_unknown_routes_and_methods_are_refused_alike(served):
    assert served.get("/nothing").status_code == 404
    response = served.get("/recommend")
    assert (response.status_code, response.headers["allow"]) == (405, "POST")
    assert response.json() == {"error": "Method Not Allowed", "details": []}


def asked(app, messages, headers=()):
    """Status, headers and the number of messages read, of a request whose body comes in the given messages.

    A message may be a number: that many seconds pass.
    """
    left = iter(messages)
    sent, n_read = [], 0

    async def receive():
        nonlocal n_read
        message = next(left)
        if isinstance(message, float):
            await asyncio.sleep(message)
        n_read += 1
        return message

    async def send(message):
        sent.append((message, n_read))

    names = [(name.lower().encode(), value.encode()) for name, value in {**JSON, **dict(headers)}.items()]
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": "/recommend", "raw_path": b"/recommend", "query_string": b"", "root_path": "", "headers": names,
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2),
    }  # fmt: skip
    asyncio.run(app(scope, receive, send))
    start, n_before = sent[0]
    return start["status"], dict(start["headers"]), n_before


def chunk(size, *, more=True):
    return {"type": "http.request", "body": b" " * size, "more_body": more}


def test_a_declared_body_that_is_too_large_is_refused_unread(served):
    end = [chunk(1, more=False)]
    status, headers, n_read = asked(served.app, end, {"Content-Length": str(LIMITS.body_bytes + 1)})
    assert (status, n_read) == (413, 0)
    assert headers[b"connection"] == b"close"


def test_a_chunked_body_is_refused_at_the_limit(served):
    chunks = [chunk(1000)] * MANY + [chunk(0, more=False)]
    status, _, n_read = asked(served.app, chunks)
    assert (status, n_read) == (413, LIMITS.body_bytes // 1000 + 1)


def test_a_body_that_does_not_arrive_is_given_up(served):
    never = 3600.0
    status, _, _ = asked(served.app, [chunk(10), never, chunk(0, more=False)])
    assert status == 408


def test_a_client_that_hangs_up_is_no_error_of_the_server(served):
    status, _, _ = asked(served.app, [chunk(10), {"type": "http.disconnect"}, {"type": "http.disconnect"}])
    assert status == 400


def test_numbers_that_are_not_finite_never_leave():
    served = Served(StandIn(scores=math.nan))
    lists = strict(served.post("/recommend", {"users": [{}]}))["lists"]
    assert lists == [{"user": None, "known": False, "items": []}]
    (item,) = strict(served.post("/score", {"user": {}, "items": [1]}))["items"]
    assert item["score"] is None
    assert strict(served.get("/info"))["metrics"]["validation"] == {"recall@5": 0.25, "auc": None}


def test_health_and_readiness():
    served = Served()
    assert served.get("/health").status_code == 200
    for response in (served.get("/ready"), served.get("/info"), served.post("/recommend", {"users": [{}]})):
        assert response.status_code == 503
        assert response.json()["error"] == "no bundle is loaded"
    served.slot.current = StandIn("v7")
    assert served.get("/ready").json() == {"status": "ready", "version": "v7"}
    served.slot.stop()
    assert served.get("/ready").status_code == 503
    assert served.get("/health").status_code == 200
    assert served.post("/recommend", {"users": [{}]}).status_code == 200  # whoever is here is still answered


def test_connections_are_closed_once_it_stops(served):
    assert "connection" not in served.get("/health").headers
    served.slot.stop()
    assert served.get("/health").headers["connection"] == "close"


def test_info_describes_the_served_bundle(served):
    info = served.get("/info").json()
    assert (info["problem"], info["member"], info["tasks"], info["k"]) == ("made up", "member-v0", ["click", "like"], 5)
    assert (info["users"], info["items"]) == (10, 40)
    assert info["limits"]["batch"] == LIMITS.batch


def test_too_many_requests_get_503_and_health_still_answers():
    served = Served(StandIn())  # two at once and one that waits
    served.slot.current.gate.clear()
    with served.client, ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(served.post, "/recommend", {"users": [{}]}) for _ in range(8)]
        refused = [one.result() for _, one in zip(range(5), as_completed(asked), strict=False)]
        assert {(one.status_code, one.headers["retry-after"]) for one in refused} == {(503, "1")}
        assert served.get("/health").status_code == 200
        served.slot.current.gate.set()
        assert sorted(one.result().status_code for one in asked) == [200] * 3 + [503] * 5
        assert len(served.slot.current.threads) == LIMITS.workers
        assert served.post("/recommend", {"users": [{}]}).status_code == 200


def test_a_request_ends_with_the_bundle_it_began_with(served):
    old = served.slot.current = StandIn("old")
    old.gate.clear()
    with served.client, ThreadPoolExecutor(1) as pool:
        slow = pool.submit(served.post, "/recommend", {"users": [{}], "k": 1})
        while not old.asked:
            assert not slow.done()
            time.sleep(0.005)
        served.slot.current = StandIn("new", first=1)
        assert served.post("/recommend", {"users": [{}]}).json()["version"] == "new"
        old.gate.set()
        assert slow.result().json()["version"] == "old"
        assert slow.result().json()["lists"][0]["items"] == [{"item": 0, "score": 0}]


def test_figures_count_requests_lists_and_bundles(served):
    for body in ({"users": [{}, {}]}, {"users": [{}]}, {"users": []}):
        served.post("/recommend", body)
    served.post("/score", {"user": {}, "items": [1, 2, 3]})
    served.slot.swaps, served.slot.refused = 4, 2
    assert served.figure("evorec_requests_total", route="/recommend", status="200") == 2
    assert served.figure("evorec_requests_total", route="/recommend", status="422") == 1
    assert served.figure("evorec_request_seconds_count", route="/recommend") == 3
    assert served.figure("evorec_lists_total") == 3
    assert served.figure("evorec_scored_items_total") == 3
    assert served.figure("evorec_bundle_swaps_total") == 4
    assert served.figure("evorec_bundles_refused_total") == 2
    assert served.figure("evorec_bundle_info", version="v0", member="member-v0") == 1
    assert served.figure("evorec_requests_in_flight") == 1  # the one that asks
    assert served.figure("evorec_ready") == 1


def test_a_scanner_does_not_fill_the_figures(served):
    for number in range(50):
        served.get(f"/nothing/{number}")
    assert served.figure("evorec_requests_total", route="other", status="404") == 50
    assert "nothing" not in served.get("/metrics").text


def test_the_schema_states_the_limits_and_its_examples_work(served):
    document = served.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    assert schemas["RecommendRequest"]["properties"]["users"]["maxItems"] == LIMITS.batch
    assert schemas["ScoreRequest"]["properties"]["items"]["maxItems"] == LIMITS.items
    for name, path in (("RecommendRequest", "/recommend"), ("ScoreRequest", "/score")):
        for example in schemas[name]["examples"]:
            assert served.post(path, example).status_code == 200
    assert set(document["paths"]["/recommend"]["post"]["responses"]) >= {"200", "413", "415", "422", "503"}


def test_every_reference_of_the_schema_leads_somewhere(served):
    document = served.get("/openapi.json").json()
    named = {part.split('"')[0] for part in json.dumps(document).split("#/components/schemas/")[1:]}
    assert named <= set(document["components"]["schemas"])

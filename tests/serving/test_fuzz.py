"""Requests that a machine makes up from the published schema: none may hurt the server."""

from pathlib import Path

import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)
from serving.stand_in import StandIn, load_stand_in

from evorec.serving.http import build_app
from evorec.serving.limits import Limits
from evorec.serving.slot import Slot

CHECKS = [
    not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance,
    negative_data_rejection, unsupported_method,
]  # fmt: skip
EXAMPLES = 60
"""Per route and per kind of data, valid and not."""


def published():
    slot = Slot(Path("nowhere"), load_stand_in)
    slot.current = StandIn()
    return schemathesis.openapi.from_asgi(
        "/openapi.json", build_app(slot, Limits(body_bytes=1 << 26, batch=8, k=50, items=8))
    )


schema = published()


@schema.parametrize()
@settings(
    max_examples=EXAMPLES, deadline=None, derandomize=True, database=None,
    suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate],
)  # fmt: skip
def test_nothing_made_up_hurts_the_server(case):
    case.call_and_validate(checks=CHECKS)

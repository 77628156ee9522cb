"""Ask an application everything that its OpenAPI describes, rightly and wrongly."""

from collections.abc import Iterator, Mapping
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.config import SchemathesisConfig
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi import checks

CONFIG = SchemathesisConfig.from_dict(
    {"checks": {"negative_data_rejection": {"expected-statuses": ["4xx"]}}}
)
CHECKS = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.unsupported_method,
    checks.allow_header_conformance,
    checks.negative_data_rejection,
    checks.ignored_auth,
]
_EXAMPLES = 15


def probed(
    schema: BaseSchema, url: str, headers: dict[str, str], known: Mapping[str, str]
) -> Iterator[str]:
    """Ask every route in all kinds of ways; yield what was asked.

    Args:
        schema: What the application says of itself.
        url: Where it is.
        headers: Of every request: a key that may do all.
        known: By the name of a field or parameter, what there is under it.
    """
    for result in schema.get_all_operations():
        assert isinstance(result, Ok), result
        operation = result.ok()
        good = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
        bad = operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)

        @given(st.one_of(good.map(lambda case: _about(case, known)), good, bad))
        @settings(
            max_examples=_EXAMPLES,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def ask(case: Any) -> None:
            case.call_and_validate(base_url=url, headers=headers, checks=CHECKS)

        ask()
        yield f"{operation.method} {operation.path}"


def _about(case: Any, known: Mapping[str, str]) -> Any:
    """Let a request be about something that there is."""
    parameters = case.path_parameters or {}
    case.path_parameters = parameters | {n: known[n] for n in parameters if n in known}
    body = case.body if isinstance(case.body, dict) else {}
    for item in body.get("items", [body]):
        if isinstance(item, dict):
            item |= {name: value for name, value in known.items() if name in item}
    return case

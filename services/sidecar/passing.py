"""Routes of OpenAI's that are passed on and not recorded, such as embeddings."""

import msgspec

from feedbackloop.capture.fields import UNREADABLE, explain
from feedbackloop.errors import RequestError
from feedbackloop.events import Alias, TenantId
from services import telemetry
from services.guard import Receive, Scope, Send
from services.sidecar import answers, upstream
from services.sidecar.body import ClientGone, peer, read_headers, read_json
from services.sidecar.entrance import no_model
from services.sidecar.parts import Parts
from services.sidecar.splice import replace_model, restore_names

_OK = 200
_FAILED = 500


class _Request(msgspec.Struct):
    model: str
    cache_salt: str | None = None


_decoder = msgspec.json.Decoder(_Request)


class Passing:
    """Answer from the stable release, whole replies only; nothing is recorded.

    Without a conversation or a person, a request is charged to its key and address alone.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            status, body, headers = await self._answer(scope, receive)
        except RequestError as error:
            telemetry.REFUSED.labels(str(error.status)).inc()
            await answers.send_error(send, error)
        except ClientGone:
            return
        else:
            await answers.send_json(send, status, body, headers)

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[int, bytes, answers.Headers]:
        if scope["method"] != "POST":
            raise RequestError("expected POST", status=405, code="method_not_allowed")
        headers = read_headers(scope)
        entrance = self._parts.entrance
        admitted = entrance.admit(headers, peer(scope), "completions")
        body = await read_json(headers, receive, self._parts.max_body_bytes)
        asked = _read(body)
        alias, model = self._model(asked, admitted.caller.tenant)
        body = entrance.salted(admitted.caller.tenant, asked.cache_salt, body)
        reply = await self._parts.server.post(
            scope["path"],
            replace_model(body, alias, model),
            {"content-type": "application/json"},
        )
        if reply.status >= _FAILED:
            raise upstream.refusal(reply.status)
        change = replace_model if reply.status == _OK else restore_names
        return reply.status, change(reply.body, model, alias), admitted.headers()

    def _model(self, asked: _Request, tenant: TenantId) -> tuple[Alias, str]:
        alias = Alias(asked.model)
        routes = self._parts.router.table.get(alias)
        if routes is None or not self._parts.entrance.sees(tenant, alias):
            raise no_model(asked.model)
        return alias, routes.stable.model


def _read(body: bytes) -> _Request:
    try:
        return _decoder.decode(body)
    except msgspec.ValidationError as error:
        message, param = explain(str(error))
        raise RequestError(message, status=400, param=param, code="invalid_type") from error
    except UNREADABLE as error:
        raise RequestError(
            f"the body is not JSON: {error}", status=400, code="invalid_json"
        ) from error

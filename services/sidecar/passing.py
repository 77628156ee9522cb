"""Routes of OpenAI's that are passed on and not recorded, such as embeddings."""

import msgspec

from feedbackloop.errors import RequestError
from feedbackloop.events import Alias
from services import telemetry
from services.guard import Receive, Scope, Send
from services.sidecar import answers, upstream
from services.sidecar.body import ClientGone, read_headers, read_json
from services.sidecar.parts import Parts
from services.sidecar.splice import replace_model, restore_names

_OK = 200
_FAILED = 500


class _Request(msgspec.Struct):
    model: str


_decoder = msgspec.json.Decoder(_Request)


class Passing:
    """Answer from the stable release, whole replies only; nothing is recorded."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            status, body = await self._answer(scope, receive)
        except RequestError as error:
            telemetry.REFUSED.labels(str(error.status)).inc()
            await answers.send_error(send, error)
        except ClientGone:
            return
        else:
            await answers.send_json(send, status, body)

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[int, bytes]:
        if scope["method"] != "POST":
            raise RequestError("expected POST", status=405, code="method_not_allowed")
        headers = read_headers(scope)
        self._parts.keys.caller(headers.get("authorization", ""), "completions")
        body = await read_json(headers, receive, self._parts.max_body_bytes)
        alias, model = self._model(body)
        reply = await self._parts.server.post(
            scope["path"],
            replace_model(body, alias, model),
            {"content-type": "application/json"},
        )
        if reply.status >= _FAILED:
            raise upstream.refusal(reply.status)
        change = replace_model if reply.status == _OK else restore_names
        return reply.status, change(reply.body, model, alias)

    def _model(self, body: bytes) -> tuple[Alias, str]:
        try:
            alias = Alias(_decoder.decode(body).model)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise RequestError(
                str(error), status=400, param="model", code="invalid_request"
            ) from error
        routes = self._parts.router.table.get(alias)
        if routes is None:
            raise RequestError(
                f"the model {alias!r} does not exist",
                status=404,
                param="model",
                code="model_not_found",
            )
        return alias, routes.stable.model

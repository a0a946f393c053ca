"""The extender's HTTP: kube-scheduler's verbs, health, metrics, state. Decodes, asks the pure side, encodes.

Filter and prioritize answer from memory: once a request is here, nothing is awaited until its answer is made. The
scheduler does not read the body of an answer other than 200, so a verb whose result has an `Error` field tells every
failure there; the others answer one line of text with a status of their own.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final, TypeVar

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from extender import binding, wire
from extender.ledger import Ledger
from extender.obs import Obs
from extender.placement.demand import Demand, DemandError
from extender.settings import Settings
from extender.state import state
from extender.verbs import Filtered, filter_nodes, filter_objects, pick_victims, score_nodes, score_objects, why_scores

JSON: Final = "application/json"
OK: Final = "ok"

Clock = Callable[[], float]
Handler = Callable[[Request], Awaitable[Response]]
_Args = TypeVar("_Args")


class RequestError(Exception):
    """A request that is not answered: a status, and one line that says why."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


@dataclass(frozen=True, slots=True)
class Answer:
    body: bytes
    outcome: str = OK


@dataclass(slots=True)
class Service:
    """What the verbs need. `why_not_ready`: None when the ledger can be relied on."""

    ledger: Ledger
    binder: binding.Binder
    obs: Obs
    settings: Settings
    now_s: Clock
    mono_s: Clock
    why_not_ready: Callable[[], str | None]

    def verbs(self) -> Starlette:
        """The verbs, and everything else for who may reach them."""
        routes = [
            Route("/filter", self._timed("filter", self._filter), methods=["POST"]),
            Route("/prioritize", self._timed("prioritize", self._prioritize), methods=["POST"]),
            Route("/preempt", self._timed("preempt", self._preempt), methods=["POST"]),
            Route("/bind", self._timed("bind", self._bind), methods=["POST"]),
            Route("/debug/state", self._state),
        ]
        return Starlette(routes=[*routes, *self._health_routes()])

    def health(self) -> Starlette:
        """What kubelet and Prometheus ask for, without the verbs."""
        return Starlette(routes=self._health_routes())

    def _health_routes(self) -> list[Route]:
        return [
            Route("/healthz", self._healthz),
            Route("/readyz", self._readyz),
            Route("/metrics", self._metrics),
        ]

    # ---- the verbs ---------------------------------------------------------------------------------------------

    async def _filter(self, body: bytes) -> Answer:
        why = self.why_not_ready()
        if why is not None:
            return Answer(wire.encode_filter_error(f"slicewise is not ready: {why}"), "not ready")
        try:
            args = wire.decode_args(body)
        except wire.WireError as e:
            return Answer(wire.encode_filter_error(str(e)), "malformed")
        try:
            demand = Demand.of(args.pod)
        except DemandError as e:  # no node will ever do; an Error would have the scheduler try again and again
            filtered = Filtered(unresolvable=dict.fromkeys(args.names, str(e)))
            self._filtered(args, filtered)
            return Answer(wire.encode_filter(filtered, args), "demand not understood")
        if demand is None:
            return Answer(wire.encode_filter(Filtered(fit=args.names), args), "nothing asked")
        if args.objects is None:
            filtered = filter_nodes(self.ledger, demand, args.names, self.now_s())
        else:
            filtered = filter_objects(self.ledger, demand, args.objects, self.now_s())
        self._filtered(args, filtered)
        return Answer(wire.encode_filter(filtered, args), OK if filtered.fit else "no node fits")

    def _filtered(self, args: wire.ExtenderArgs, filtered: Filtered) -> None:
        meta = args.pod.get("metadata")
        known = meta if isinstance(meta, dict) else {}
        self.obs.filtered(
            uid=str(known.get("uid")),
            pod=f"{known.get('namespace')}/{known.get('name')}",
            fit=len(filtered.fit),
            failed=filtered.failed,
            unresolvable=filtered.unresolvable,
        )

    async def _prioritize(self, body: bytes) -> Answer:
        self._want_ready()
        args = _decoded(wire.decode_args, body)
        demand = _demand_or_none(args)
        if demand is None:
            return Answer(wire.encode_scores((name, 0) for name in args.names), "nothing asked")
        if args.objects is None:
            scores = score_nodes(self.ledger, demand, args.names, self.now_s())
            if self.settings.log_level == "debug":
                best = why_scores(self.ledger, demand, args.names, self.now_s())
                self.obs.scored(uid=demand.uid, pod=demand.key, best=best)
        else:
            scores = score_objects(self.ledger, demand, args.objects, self.now_s())
        return Answer(wire.encode_scores(scores))

    async def _preempt(self, body: bytes) -> Answer:
        self._want_ready()
        args = _decoded(wire.decode_preemption, body)
        demand = _demand_or_none(args)
        if demand is None:  # the scheduler's own choice is as good as any
            return Answer(wire.encode_preemption(args.candidates), "nothing asked")
        found = pick_victims(self.ledger, demand, args.candidates, self.now_s())
        return Answer(wire.encode_preemption(found), OK if found else "nobody helps")

    async def _bind(self, body: bytes) -> Answer:
        why = self.why_not_ready()
        if why is not None:
            return Answer(wire.encode_binding(f"slicewise is not ready: {why}"), "not ready")
        try:
            args = wire.decode_binding(body)
        except wire.WireError as e:
            return Answer(wire.encode_binding(str(e)), "malformed")
        request = binding.Request(args.pod_namespace, args.pod_name, args.pod_uid, args.node)
        result = await self.binder.bind(request)
        if isinstance(result, binding.Unbound):
            return Answer(wire.encode_binding(result.why), result.outcome)
        return Answer(wire.encode_binding())

    def _want_ready(self) -> None:
        why = self.why_not_ready()
        if why is not None:
            raise RequestError(503, f"slicewise is not ready: {why}")

    # ---- around them -------------------------------------------------------------------------------------------

    def _timed(self, verb: str, answer: Callable[[bytes], Awaitable[Answer]]) -> Handler:
        async def handle(request: Request) -> Response:
            try:
                body = await self._body(request)
                began_s = self.mono_s()
                found = await answer(body)
            except RequestError as e:
                self.obs.refused(verb, e.status)
                return PlainTextResponse(f"{e}\n", e.status)
            self.obs.answered(verb, found.outcome, self.mono_s() - began_s)
            return Response(found.body, media_type=JSON)

        return handle

    async def _body(self, request: Request) -> bytes:
        """The whole body, within bounds of size and time."""
        most = self.settings.max_body_mib << 20
        length = request.headers.get("content-length", "")
        chunks: list[bytes] = []
        size = int(length) if length.isascii() and length.isdigit() else 0
        try:
            async with asyncio.timeout(self.settings.read_deadline_s):
                if size <= most:
                    size = 0
                    async for chunk in request.stream():
                        chunks.append(chunk)
                        size += len(chunk)
                        if size > most:
                            break
        except TimeoutError as e:
            raise RequestError(408, f"the body was not here within {self.settings.read_deadline_s:g} s") from e
        except ClientDisconnect as e:
            raise RequestError(400, "the client left before its body was here") from e
        if size > most:
            raise RequestError(413, f"the body has more than {self.settings.max_body_mib} MiB (max_body_mib)")
        return b"".join(chunks)

    async def _healthz(self, _: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def _readyz(self, _: Request) -> Response:
        why = self.why_not_ready()
        return PlainTextResponse("ok\n") if why is None else PlainTextResponse(f"{why}\n", 503)

    async def _metrics(self, _: Request) -> Response:
        return Response(generate_latest(self.obs.registry), media_type=CONTENT_TYPE_LATEST)

    async def _state(self, request: Request) -> Response:
        allowed = self.settings.debug_state
        host = request.client.host if request.client else ""
        if allowed == "never" or (allowed == "loopback" and not _is_loopback(host)):
            return PlainTextResponse(f"not for {host or 'you'} (debug_state: {allowed})\n", 403)
        return JSONResponse(state(self.ledger, self.now_s(), only=request.query_params.get("node")))


def _decoded(decode: Callable[[bytes], _Args], body: bytes) -> _Args:
    try:
        return decode(body)
    except wire.WireError as e:
        raise RequestError(400, str(e)) from e


def _demand_or_none(args: wire.ExtenderArgs | wire.PreemptionArgs) -> Demand | None:
    """A demand that filter refused for every node never comes here; if it does, it asks for nothing."""
    try:
        return Demand.of(args.pod)
    except DemandError:
        return None


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False

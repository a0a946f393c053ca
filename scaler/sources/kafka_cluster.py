"""Four questions to a Kafka cluster, over connections that are kept: leaders, committed offsets, ends, known groups.

On aiokafka's connections and messages. Its admin and consumer clients are not used: their metadata requests create the
topics that they ask for, and they hide why a partition or a login failed.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Container, Iterable, Mapping
from itertools import chain
from typing import Any, Final

from aiokafka import errors
from aiokafka.conn import create_conn
from aiokafka.protocol.admin import ListGroupsRequest
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.protocol.coordination import FindCoordinatorRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.offset import OffsetRequest

from scaler.backends import KafkaBackend
from scaler.signals.reading import Missing
from scaler.sources.base import SourceError
from scaler.sources.broker import credentials, tls_context

Partitions = Mapping[int, int | Missing]
"""Number of a partition -> id of the broker that leads it."""
Numbered = tuple[str, int]
"""A partition: its topic and number."""

LATEST, EARLIEST = -1, -2
"""Timestamps that stand for a partition's ends in ListOffsets (kafka.apache.org/protocol)."""

GROUP: Final = 0
"""Kind of coordinator in FindCoordinator."""

UNKNOWN_TOPIC, LOADING, NOT_THERE, NOT_COORDINATOR = 3, 14, 15, 16
"""Error codes (kafka.apache.org/protocol#protocol_error_codes)."""

SHARE: Final = 0.8
"""Of the source's time-out, for one request: a broker that hangs then costs its own partitions and not all."""


# At debug it writes whole requests, the passwords in those of a login among them.
logging.getLogger("aiokafka").setLevel(logging.WARNING)


class Cluster:
    """Every method raises SourceError where what it asks does not answer; what the answer lacks is Missing."""

    def __init__(self, backend: KafkaBackend, *, timeout_s: float) -> None:
        self._backend = backend
        self._timeout_s = SHARE * timeout_s
        self._connections: dict[str, Any] = {}
        self._closing: set[asyncio.Future[Any]] = set()
        self._connecting: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._addresses: dict[int, str] = {}
        self._coordinators: dict[str, int] = {}
        self._silent: set[str] = set()

    async def leaders(self, topics: Iterable[str]) -> Mapping[str, Partitions | Missing]:
        """Who leads each partition of each topic: the first question of a reading. Creates no topic."""
        wanted = sorted(topics)
        last_time_silent, self._silent = self._silent, set()
        answer = await self._send_to_any(
            lambda: MetadataRequest(wanted, allow_auto_topic_creation=False), late=last_time_silent
        )
        self._addresses = {node: _address(host, port) for node, host, port, *_ in answer.brokers}
        found: dict[str, Partitions | Missing] = dict.fromkeys(
            wanted, Missing("the brokers do not speak of this topic")
        )
        for code, topic, _, partitions in answer.topics:
            if code == UNKNOWN_TOPIC:
                found[topic] = Missing("there is no such topic")
            elif code:
                found[topic] = Missing(f"the brokers say {_named(code)} of this topic")
            elif len(partitions) > self._backend.max_partitions:
                limit = self._backend.max_partitions
                found[topic] = Missing(
                    f"the topic has {len(partitions)} partitions, more than max_partitions ({limit})"
                )
            else:
                found[topic] = {number: _leader(leader) for _, number, leader, *_ in partitions}
        return found

    async def committed(self, group: str, partitions: Iterable[Numbered]) -> Mapping[Numbered, int | Missing | None]:
        """Committed offset of each partition, None where the group has committed nothing there."""
        numbers: defaultdict[str, list[int]] = defaultdict(list)
        for topic, number in partitions:
            numbers[topic].append(number)
        answer = await self._of_coordinator(group, lambda: OffsetFetchRequest(group, sorted(numbers.items())))
        if isinstance(answer, Missing):
            return {(topic, number): answer for topic in numbers for number in numbers[topic]}
        return {
            (topic, number): Missing(f"its coordinator says {_named(code)}") if code else _offset(offset)
            for topic, told in answer.topics
            for number, offset, _, code in told
        }

    async def knows(self, group: str) -> bool | Missing:
        """Whether the group's coordinator has heard of it, whatever its protocol."""
        answer = await self._of_coordinator(group, ListGroupsRequest)
        return answer if isinstance(answer, Missing) else any(name == group for name, _ in answer.groups)

    async def offsets(self, led: Mapping[Numbered, int], which: int) -> Mapping[Numbered, int | Missing]:
        """One end, LATEST or EARLIEST, of each partition, from the brokers (`led`: their ids) that lead them."""
        shares: defaultdict[int, list[Numbered]] = defaultdict(list)
        for partition, leader in sorted(led.items()):
            shares[leader].append(partition)
        found = await asyncio.gather(*(self._of_leader(leader, share, which) for leader, share in shares.items()))
        return dict(chain.from_iterable(part.items() for part in found))

    async def close(self) -> None:
        """Until the sockets are closed, which aiokafka puts off to the loop's next turns."""
        for address in list(self._connections):
            self._forget(address)
        if self._closing:
            await asyncio.wait(self._closing, timeout=1.0)

    async def _of_leader(self, leader: int, share: list[Numbered], which: int) -> Mapping[Numbered, int | Missing]:
        numbers: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
        for topic, number in share:
            numbers[topic].append((number, which))
        anyone, uncommitted_too = -1, 0
        try:
            request = OffsetRequest(anyone, uncommitted_too, list(numbers.items()))
            answer = await self._send(self._addresses.get(leader, ""), request)
        except SourceError as e:
            return dict.fromkeys(share, Missing(f"its leader, broker {leader}, was not asked: {e}"))
        told = {
            (topic, number): Missing(f"its leader says {_named(code)}") if code else offset
            for topic, partitions in answer.topics
            for number, code, _, offset, *_ in partitions
        }
        return {partition: told.get(partition, Missing("its leader does not speak of it")) for partition in share}

    async def _of_coordinator(self, group: str, request: Any) -> Any:  # noqa: ANN401  # messages are untyped
        """The answer of the group's coordinator to `request()`; Missing where nobody is that now."""
        code = NOT_COORDINATOR
        for _ in range(2):  # who was the coordinator may not be it any more
            if group not in self._coordinators:
                found = await self._send_to_any(lambda: FindCoordinatorRequest(group, GROUP))
                if found.error_code:
                    return Missing(f"the group has no coordinator now ({_named(found.error_code)})")
                self._coordinators[group] = found.coordinator_id
            address = self._addresses.get(self._coordinators[group], "")
            try:
                answer = await self._send(address, request())
            except SourceError as e:
                self._coordinators.pop(group, None)
                return Missing(f"the group's coordinator was not asked: {e}")
            code = getattr(answer, "error_code", 0)
            if not code:
                return answer
            self._coordinators.pop(group, None)
            if code not in {LOADING, NOT_THERE, NOT_COORDINATOR}:
                break
        return Missing(f"the group's coordinator says {_named(code)}")

    async def _send_to_any(self, request: Any, late: Container[str] = ()) -> Any:  # noqa: ANN401  # as above
        """The first answer of those that we are connected to, those that are known, and those of the settings.

        `late`: those that are asked last.
        """
        whys: dict[str, str] = {}
        known = dict.fromkeys([*self._connections, *self._addresses.values(), *self._backend.servers])
        for address in sorted(known, key=lambda address: address in late):
            try:
                return await self._send(address, request())
            except SourceError as e:
                whys[address] = str(e)
        raise SourceError("; ".join(f"{address}: {why}" for address, why in list(whys.items())[:3]))

    async def _send(self, address: str, request: Any) -> Any:  # noqa: ANN401  # messages are untyped
        if not address:
            raise SourceError("its address is not known")
        if address in self._silent:
            raise SourceError("left another question of this reading unanswered")
        try:
            async with self._connecting[address]:
                connection = await self._connection(address)
            return await connection.send(request)
        except (
            errors.SaslAuthenticationFailed,
            errors.AuthenticationFailedError,
            errors.UnsupportedSaslMechanismError,
        ) as e:
            raise SourceError(f"refused our credentials ({type(e).__name__})") from None
        except TimeoutError as e:
            self._silent.add(address)  # it costs one time-out a reading
            self._forget(address)
            raise SourceError(f"no answer within {self._timeout_s:g} s") from e
        except (errors.KafkaError, OSError) as e:
            self._forget(address)
            raise SourceError(f"not reachable ({type(e).__name__}: {str(e)[:120]})") from e
        except (NotImplementedError, AssertionError, ValueError, EOFError) as e:
            self._forget(address)
            raise SourceError(f"does not speak Kafka as we do ({type(e).__name__}: {str(e)[:120]})") from e

    async def _connection(self, address: str) -> Any:  # noqa: ANN401  # aiokafka has no types
        kept = self._connections.get(address)
        if kept is not None and kept.connected():
            return kept
        backend = self._backend
        user, password = credentials(backend)
        host, _, port = address.rpartition(":")
        protocol = ("SASL_" if backend.sasl else "") + ("SSL" if backend.tls else "PLAINTEXT")
        connection = await create_conn(
            host.strip("[]"),
            int(port),
            client_id="slicewise",
            request_timeout_ms=int(self._timeout_s * 1000),
            security_protocol=protocol,
            ssl_context=tls_context(backend) if backend.tls else None,
            sasl_mechanism=backend.sasl,
            sasl_plain_username=user,
            sasl_plain_password=password,
        )
        self._connections[address] = connection
        return connection

    def _forget(self, address: str) -> None:
        connection = self._connections.pop(address, None)
        closed = None if connection is None else connection.close()
        if closed is not None:
            self._closing.add(closed)
            closed.add_done_callback(self._closing.discard)


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _leader(node: int) -> int | Missing:
    return node if node >= 0 else Missing("it has no leader now")


def _offset(offset: int) -> int | None:
    return offset if offset >= 0 else None


def _named(code: int) -> str:
    return str(errors.for_code(code).message)

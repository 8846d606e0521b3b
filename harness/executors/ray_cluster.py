"""A Ray cluster: joined or started here, and what its nodes have.

It must not know what runs on it.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from models.errors import UserError

try:
    import ray
    from ray import exceptions
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ImportError:  # an extra
    raise UserError(
        'The executor ray needs the package ray; install it with: pip install "tokenrank[ray]".'
    ) from None

CONNECT_WITHIN = 5.0  # seconds
SETTINGS, FRAME_HEAD = 4, 9  # HTTP/2: a frame's type, and the bytes that say it
HTTP2_BEGINS = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, SETTINGS, 0, 0, 0, 0, 0))
FOR_WORKERS = ("PYTHONPATH", "TOKENRANK_TUNING")  # settings that they have from the driver


def connect(address: str | None, settings: Mapping[str, str] = MappingProxyType({})) -> None:
    """Join the cluster, or start one here. Raises `UserError`, soon, if it does not answer.

    ``settings``: environment variables of the workers, beside those that they have from here.
    """
    if address is not None and address not in ("auto", "local"):
        require_answer(address)
    given = {name: os.environ[name] for name in FOR_WORKERS if name in os.environ}
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray.init(
            address=address or "local",
            runtime_env={"env_vars": {**given, **settings}},
            log_to_driver=False,
            logging_level=logging.ERROR,
            include_dashboard=False if address in (None, "local") else None,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UserError(
            f'No Ray cluster answers at "{address}" ({str(error).splitlines()[0]}); start one with '
            "ray start --head, or give its address in the profile (ray: address)."
        ) from None


def require_answer(address: str) -> None:
    """Raises `UserError`, within seconds, where no Ray cluster listens at an address.

    Ray itself asks for minutes, of something else that listens there too, and ends the process.
    """
    if "/" in address:
        raise UserError(
            f'"{address}" is not the address of a cluster\'s head: allowed are HOST:PORT and auto '
            "(ray: address in the profile); a run is started on a machine of the cluster, not "
            "through Ray's client (ray://) or its dashboard."
        )
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=CONNECT_WITHIN) as connection:
            if os.environ.get("RAY_USE_TLS", "0").lower() not in ("1", "true"):
                _require_grpc(connection)
    except (OSError, ValueError) as error:
        raise UserError(
            f'No Ray cluster answers at "{address}" ({error}); check the address in the profile '
            "(ray: address, HOST:PORT; ray start prints it), and that the cluster runs."
        ) from None


def _require_grpc(connection: socket.socket) -> None:
    """A server of gRPC answers the start of HTTP/2 with its settings (RFC 9113, section 3.4)."""
    connection.sendall(HTTP2_BEGINS)
    head = connection.recv(FRAME_HEAD)
    if len(head) < FRAME_HEAD or head[3] != SETTINGS:
        raise ConnectionError("something else listens there")


def largest(resource: str) -> float:
    """The most of a resource that a node has."""
    return max((node["Resources"].get(resource, 0.0) for node in alive()), default=0.0)


def alive() -> list[dict[str, Any]]:
    """The nodes that are there, as Ray tells them."""
    return [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def resources() -> dict[str, float]:
    """What all nodes have together."""
    found: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return found


__all__ = [
    "NodeAffinitySchedulingStrategy",
    "alive",
    "connect",
    "exceptions",
    "largest",
    "ray",
    "require_answer",
    "resources",
]

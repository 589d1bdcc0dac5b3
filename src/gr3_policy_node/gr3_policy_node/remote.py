"""A policy on another machine, over the openpi protocol.

One connection, one request at a time. After a deadline the connection is closed: its late answer must never be taken
for the next one's. The next inference connects anew, so that a server may restart between two tasks; within a task a
robot does not wait for it, the inference fails and the task ends.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

import numpy as np
from bytemini_core.types import ActionChunk, Observation, PolicyMetadata, TaskStatus
from bytemini_description.robot import RobotModel
from numpy.typing import NDArray
from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as open_connection

from gr3_policy_node.codec import pack, unpack
from gr3_policy_node.keymap import DEADLINE, Column, Joints, KeyMap, Picture, Prompt, load_key_map, pick

CONNECT_SECONDS = 5.0
"""How long a server may take to greet."""

MOST_BYTES = 64 * 2**20
"""Of one answer."""


class Connection:
    """One client of a server, connecting when needed. For one thread."""

    def __init__(self, url: str, token: str = "") -> None:
        self._url = url
        self._headers = {"Authorization": f"Api-Key {token}"} if token else {}
        self._exits = contextlib.ExitStack()
        self._socket: ClientConnection | None = None

    def open(self, seconds: float = CONNECT_SECONDS) -> dict[str, Any]:
        """Connect; the server's metadata.

        Raises:
            ConnectionError: nobody answers there, or refuses, or does not greet in the protocol's way.
        """
        self.close()
        try:
            self._socket = self._exits.enter_context(
                open_connection(
                    self._url,
                    additional_headers=self._headers,
                    compression=None,
                    max_size=MOST_BYTES,
                    open_timeout=seconds,
                    close_timeout=0.2,
                    proxy=None,
                )
            )
            greeting = self._socket.recv(timeout=seconds)
            metadata = unpack(greeting) if isinstance(greeting, bytes) else None
        except (OSError, WebSocketException, TimeoutError, ValueError) as error:
            self.close()
            reason = str(error) or type(error).__name__
            raise ConnectionError(f"no policy server of the openpi protocol at {self._url}: {reason}") from None
        if not isinstance(metadata, dict):
            self.close()
            raise ConnectionError(f"the server at {self._url} greets with no metadata: is it an openpi policy server?")
        return metadata

    def ask(self, message: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Send one observation; the answer.

        Raises:
            TimeoutError: none came in `seconds`.
            ConnectionError: the connection broke, and a new one in the same time did not help.
            ValueError: the server refuses, with its words.
        """
        data, until = pack(message), time.monotonic() + seconds
        fresh = self._socket is None
        if fresh:
            self.open(seconds)
        while True:
            assert self._socket is not None
            try:
                self._socket.send(data)
                answer = self._socket.recv(timeout=max(until - time.monotonic(), 1e-3))
                break
            except TimeoutError:
                self.close()
                raise TimeoutError(f"{self._url} did not answer within {seconds:g} s") from None
            except (OSError, WebSocketException) as error:
                self.close()
                if fresh:
                    raise ConnectionError(f"{self._url} broke the connection: {error}") from None
            fresh = True  # the server went away since the last answer, perhaps to come back: one new try
            self.open(max(until - time.monotonic(), 1e-3))
        if isinstance(answer, str):
            # openpi's servers send a whole traceback: its last line says what it was.
            raise ValueError(f"{self._url} refuses: {(answer.strip().splitlines() or ['it does not say why'])[-1]}")
        reply = unpack(answer)
        if not isinstance(reply, dict) or "actions" not in reply:
            raise ValueError(f"{self._url} answered without 'actions'")
        return reply

    def close(self) -> None:
        """Leave; the next request connects anew."""
        self._socket = None
        with contextlib.suppress(OSError, WebSocketException):
            self._exits.close()


class RemotePolicy:
    """A `Policy` (bytemini_core.types) that a server elsewhere computes."""

    def __init__(self, connection: Connection, keys: KeyMap, metadata: PolicyMetadata, ours: bool) -> None:
        """Speak through an open connection.

        Args:
            connection: to the server.
            keys: how it calls things.
            metadata: of the policy that it serves.
            ours: whether the server takes `reset` and tells a task status.
        """
        self.metadata = metadata
        self.phase = ""
        self._connection, self._keys, self._ours = connection, keys, ours
        self._begin = True

    def reset(self) -> None:
        """The next observation begins a task."""
        self._begin, self.phase = True, ""

    def close(self) -> None:
        """Leave the server."""
        self._connection.close()

    def infer(
        self,
        observation: Observation,
        prefix: NDArray[np.float32] | None = None,
        noise: NDArray[np.float32] | None = None,
    ) -> ActionChunk:
        """Ask the server.

        Raises:
            TimeoutError: no answer within the key map's deadline.
            ConnectionError: the server is gone.
            ValueError: it refuses, or answers what does not fit the map.
        """
        message = self._keys.request(observation)
        if self._ours:
            state = observation.state
            joints = next(source.names for source in self._keys.observation.values() if isinstance(source, Joints))
            for key, measured in (("state", state.position), ("velocity", state.velocity), ("effort", state.effort)):
                message[key] = pick(observation, measured, joints)
            message |= {"stamp": observation.stamp, "base_pose": state.base_pose, "base_twist": state.base_twist}
            message["deadline_ms"] = 1000.0 * self._keys.deadline
            message |= {"reset": True} if self._begin else {}
            message |= {"prefix": prefix} if prefix is not None else {}
            message |= {"noise": noise} if noise is not None else {}
        reply = self._connection.ask(message, self._keys.deadline)
        self._begin = False
        self.phase = str(reply.get("phase", ""))
        actions = reply["actions"]
        empty = self._ours and isinstance(actions, np.ndarray) and actions.shape == (0, len(self._keys.actions))
        rows = np.zeros((0, len(self._keys.columns)), dtype=np.float32)
        values = rows if empty else self._keys.rows_of(actions, observation)
        return ActionChunk(
            observation.stamp,
            0,
            self._keys.columns,
            self._keys.dt,
            values,
            _numbers(reply, "row_status", len(values), float(TaskStatus.ONGOING)).astype(np.int8),
            _numbers(reply, "row_confidence", len(values), 1.0),
            observation.instruction,
            self.metadata.name,
        )


def connect(choice: str, robot: RobotModel, token: str = "", deadline: float = DEADLINE) -> RemotePolicy:
    """The policy behind `ws://host:port` (one of our own servers) or `ws://host:port#map.yaml` (any).

    Args:
        choice: the address.
        robot: that the policy drives.
        token: that the server wants, "" for none.
        deadline: s in which an answer of one of our own servers is of use; a key map states its own.

    Raises:
        ValueError: no server is there, the map is wrong, or what the server says of itself does not fit the robot.
    """
    url, _, path = choice.partition("#")
    connection = Connection(url, token)
    keys = load_key_map(Path(path).expanduser(), robot) if path else None
    try:
        announced = connection.open()
    except ConnectionError as error:
        raise ValueError(str(error)) from None
    ours = announced.get("server") == "bytemini"
    try:
        if keys is None:
            keys = _announced_map(announced, robot, url, deadline)
        extra: dict[str, Any] = {"server": url}
        if ours and isinstance(announced.get("extra"), dict):
            extra |= announced["extra"]
        sizes = {source.size for source in keys.observation.values() if isinstance(source, Picture)}
        metadata = PolicyMetadata(
            name=f"{keys.name} at {url}",
            columns=keys.columns,
            horizon=keys.rows,
            dt=keys.dt,
            cameras=keys.cameras,
            image_size=max(sizes, default=(224, 224)),
            extra=extra,
        )
    except ValueError:
        connection.close()
        raise
    return RemotePolicy(connection, keys, metadata, ours)


def _announced_map(announced: dict[str, Any], robot: RobotModel, url: str, deadline: float) -> KeyMap:
    """The key map that one of our own servers implies by its metadata."""
    if announced.get("server") != "bytemini":
        raise ValueError(
            f"the server at {url} is not one of ours: say how it calls things with {url}#map.yaml "
            "(src/gr3_policy_node/README.md)"
        )
    try:
        columns, state, cameras = (tuple(map(str, announced[key])) for key in ("columns", "state", "cameras"))
        height, width = (int(length) for length in announced["image_size"])
        name, dt, horizon = str(announced["policy"]), float(announced["dt"]), int(announced["horizon"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"the server at {url} announces metadata of another version ({error!r})") from None
    if unknown := [name for name in state if name not in robot.joint_names]:
        raise ValueError(f"the server at {url} wants {', '.join(unknown)}, which robot {robot.version} has not")
    known = (*robot.joint_names, *robot.policy_columns)
    if unknown := [name for name in columns if name not in known and "_hand/" not in name]:
        raise ValueError(f"the server at {url} moves {', '.join(unknown)}, which robot {robot.version} has not")
    sources: dict[str, Any] = {"state": Joints(state), "prompt": Prompt()}
    sources |= {f"images/{camera}": Picture(camera, (height, width)) for camera in cameras}
    return KeyMap(name, sources, tuple(Column(column) for column in columns), dt, horizon, deadline)


def _numbers(reply: dict[str, Any], key: str, rows: int, default: float) -> NDArray[np.float32]:
    values = reply.get(key)
    if values is None:
        return np.full(rows, default, dtype=np.float32)
    if not isinstance(values, list) or len(values) < rows or not all(isinstance(v, int | float) for v in values):
        raise ValueError(f"the server's {key} is {values!r:.40}, expected {rows} numbers")
    return np.asarray(values[:rows], dtype=np.float32)

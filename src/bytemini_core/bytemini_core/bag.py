"""Write rosbag2 bags (MCAP) from raw CDR bytes, with no ROS installation.

A bag is a folder: `metadata.yaml` (version 9, ROS 2 Jazzy) beside `<folder>_0.mcap`. `ros2 bag play`, Foxglove,
`rosbags` and `mcap` open it. Messages are written as the bytes that were on the wire, so nothing is decoded on the way.

The file is made of small chunks that reach the operating system as soon as they are full or a second of log time old: a
process that is killed loses at most the last of them. Such a torn bag has no `metadata.yaml`; `ros2 bag reindex`
mends it.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml
from mcap.writer import CompressionType, Writer

from bytemini_core.types import NANOSECONDS

CHUNK_BYTES = 256 * 1024
CHUNK_NANOSECONDS = NANOSECONDS

_INFINITE = {"sec": 9223372036, "nsec": 854775807}
"""How rmw writes a duration that was never set."""

_PRIMITIVES = {"bool", "byte", "char", "float32", "float64", "string", "wstring"} | {
    f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
}
_TYPE = re.compile(r"([A-Za-z]\w*)/msg/([A-Za-z]\w*)")
_FIELD = re.compile(r"\s*([A-Za-z][\w/]*)(?:<=\d+)?(?:\[[^\]]*\])?\s+[A-Za-z]\w*")


@dataclass(frozen=True, slots=True)
class TopicQos:
    """The quality of service a topic was offered with; `ros2 bag play` publishes with the same."""

    reliability: str = "reliable"
    durability: str = "volatile"
    depth: int = 10

    def __post_init__(self) -> None:
        for name, allowed in (
            ("reliability", ("reliable", "best_effort")),
            ("durability", ("volatile", "transient_local")),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"TopicQos.{name} is {getattr(self, name)!r}, expected {' or '.join(allowed)}")
        if self.depth < 1:
            raise ValueError(f"TopicQos.depth is {self.depth}, expected at least 1")

    def profile(self) -> dict[str, Any]:
        """The profile as rosbag2 writes it (metadata version 9: enumerations by name)."""
        return {
            "history": "keep_last",
            "depth": self.depth,
            "reliability": self.reliability,
            "durability": self.durability,
            "deadline": dict(_INFINITE),
            "lifespan": dict(_INFINITE),
            "liveliness": "automatic",
            "liveliness_lease_duration": dict(_INFINITE),
            "avoid_ros_namespace_conventions": False,
        }


@dataclass(slots=True)
class _Topic:
    name: str
    type: str
    qos: TopicQos
    type_hash: str
    channel: int
    count: int = 0


class BagWriter:
    """Writes one bag; a context manager that leaves a complete bag behind even when the block raises.

    Args:
        directory: the bag's folder; made if absent, and must be empty.
        compression: of the chunks: "zstd" (small), "lz4" (fast) or "none".

    Raises:
        FileExistsError: `directory` holds something already; nothing is overwritten.
        ValueError: unknown compression.
    """

    def __init__(self, directory: str | Path, compression: str = "zstd") -> None:
        if compression not in ("zstd", "lz4", "none"):
            raise ValueError(f"bag compression is {compression!r}, expected zstd, lz4 or none")
        self.directory = Path(directory)
        if self.directory.is_file() or (self.directory.is_dir() and any(self.directory.iterdir())):
            raise FileExistsError(f"{self.directory} exists already: give a new folder for the bag, or remove it")
        self.directory.mkdir(parents=True, exist_ok=True)
        # Resolved, because the folder's name is the file's and "." has none.
        self.path = self.directory / f"{self.directory.resolve().name}_0.mcap"
        self._distro = os.environ.get("ROS_DISTRO", "jazzy")
        self._stream = self.path.open("wb")
        # Chunks are ended in `write`, by size and by age: the library's own threshold never fires.
        self._writer = Writer(self._stream, chunk_size=2**62, compression=CompressionType[compression.upper()])
        self._writer.start(profile="ros2", library="bytemini_core")
        self._writer.add_metadata("rosbag2", {"ROS_DISTRO": self._distro})
        self._schemas: dict[str, int] = {}
        self._topics: dict[str, _Topic] = {}
        self._first: int | None = None
        self._last = 0
        self._pending = 0
        self._chunk_start: int | None = None
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def message_count(self) -> int:
        """Messages written so far."""
        return sum(topic.count for topic in self._topics.values())

    def register(self, topic: str, type_name: str, schema: str | None = None, qos: TopicQos | None = None) -> None:
        """Declare a topic; must come before its first message. Declaring it again with the same type changes nothing.

        Args:
            topic: fully qualified, "/joint_states".
            type_name: "pkg/msg/Type".
            schema: .msg text with the text of all dependencies, as `message_definition` gives it; None to look it up.
            qos: how the topic is offered; None for reliable, volatile, depth 10.

        Raises:
            ValueError: not a topic or type name, or the topic is registered with another type.
            LookupError: no schema given and the type is not installed.
        """
        self._require_open()
        if not topic.startswith("/"):
            raise ValueError(f"topic {topic!r} does not start with '/': a bag needs fully qualified names")
        if (known := self._topics.get(topic)) is not None:
            if known.type != type_name:
                raise ValueError(f"topic {topic} is registered as {known.type}, not as {type_name}")
            return
        _split(type_name)
        text = message_definition(type_name) if schema is None else schema
        if type_name not in self._schemas:
            self._schemas[type_name] = self._writer.register_schema(type_name, "ros2msg", text.encode())
        qos = qos or TopicQos()
        type_hash = message_type_hash(type_name)
        metadata = {
            "offered_qos_profiles": yaml.safe_dump([qos.profile()], sort_keys=False),
            "topic_type_hash": type_hash,
        }
        channel = self._writer.register_channel(topic, "cdr", self._schemas[type_name], metadata)
        self._topics[topic] = _Topic(topic, type_name, qos, type_hash, channel)

    def write(self, topic: str, cdr: bytes, log_time_ns: int, publish_time_ns: int | None = None) -> None:
        """Append one message.

        Args:
            topic: registered before.
            cdr: the serialised message with its encapsulation header, as `rclpy.serialization` or a raw subscription
                gives it.
            log_time_ns: when it was received, in the clock in force.
            publish_time_ns: when it was sent; None for the same.

        Raises:
            ValueError: unknown topic, bytes that cannot be CDR, a negative time, or a closed bag.
        """
        self._require_open()
        entry = self._topics.get(topic)
        if entry is None:
            raise ValueError(f"topic {topic} was not registered in {self.directory}: call register() first")
        if len(cdr) < 4 or cdr[0] != 0:
            raise ValueError(f"message on {topic} is not CDR: expected a 4-byte encapsulation header, got {cdr[:4]!r}")
        if log_time_ns < 0 or (publish_time_ns is not None and publish_time_ns < 0):
            raise ValueError(f"message on {topic} has a negative time ({log_time_ns}, {publish_time_ns})")
        entry.count += 1
        publish = log_time_ns if publish_time_ns is None else publish_time_ns
        self._writer.add_message(entry.channel, log_time_ns, cdr, publish, entry.count)
        self._first = log_time_ns if self._first is None else min(self._first, log_time_ns)
        self._last = max(self._last, log_time_ns)
        self._pending += len(cdr)
        if self._chunk_start is None:
            self._chunk_start = log_time_ns
        if self._pending >= CHUNK_BYTES or log_time_ns - self._chunk_start >= CHUNK_NANOSECONDS:
            self.flush()

    def flush(self) -> None:
        """Hand everything written so far to the operating system, as a chunk of its own."""
        self._writer.flush()  # type: ignore[no-untyped-call]
        self._pending = 0
        self._chunk_start = None

    def close(self) -> None:
        """Finish the file and write `metadata.yaml`; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        information = self._information()
        try:
            serialized = yaml.safe_dump(information, sort_keys=False)
            self._writer.add_metadata("rosbag2", {"serialized_metadata": serialized})
            self._writer.finish()  # type: ignore[no-untyped-call]
        finally:
            self._stream.close()
        temporary = self.directory / ".metadata.yaml.part"
        temporary.write_text(
            yaml.safe_dump({"rosbag2_bagfile_information": information}, sort_keys=False), encoding="utf-8"
        )
        temporary.replace(self.directory / "metadata.yaml")

    def _require_open(self) -> None:
        if self._closed:
            raise ValueError(f"bag {self.directory} is closed")

    def _information(self) -> dict[str, Any]:
        return {
            "version": 9,
            "storage_identifier": "mcap",
            **self._span(),
            "topics_with_message_count": [
                {
                    "topic_metadata": {
                        "name": topic.name,
                        "type": topic.type,
                        "serialization_format": "cdr",
                        "offered_qos_profiles": [topic.qos.profile()],
                        "type_description_hash": topic.type_hash,
                    },
                    "message_count": topic.count,
                }
                for topic in self._topics.values()
            ],
            # Chunks are compressed inside the file; these two speak of rosbag2's own, outer compression.
            "compression_format": "",
            "compression_mode": "",
            "relative_file_paths": [self.path.name],
            "files": [{"path": self.path.name, **self._span()}],
            "custom_data": None,
            "ros_distro": self._distro,
        }

    def _span(self) -> dict[str, Any]:
        start = self._first or 0
        return {
            "duration": {"nanoseconds": self._last - start},
            "starting_time": {"nanoseconds_since_epoch": start},
            "message_count": self.message_count,
        }


def message_definition(type_name: str) -> str:
    """The .msg text of a type followed by that of everything it contains: the schema of encoding "ros2msg".

    Args:
        type_name: "pkg/msg/Type".

    Returns:
        The text; each dependency follows a line of 80 "=" and a line "MSG: pkg/msg/Type", as rosbag2 writes them.

    Raises:
        ValueError: not such a name.
        LookupError: a type is not installed below any prefix of AMENT_PREFIX_PATH.
    """
    parts = [_message_text(type_name)]
    seen = {type_name}
    queue = list(_dependencies(type_name))
    while queue:
        name = queue.pop(0)
        if name not in seen:
            seen.add(name)
            parts.append(f"{'=' * 80}\nMSG: {name}\n{_message_text(name)}")
            queue.extend(_dependencies(name))
    return "\n".join(parts)


def message_type_hash(type_name: str) -> str:
    """The RIHS01 hash that was installed with a type, or "" where there is none (rosbag2 accepts both)."""
    path = _find(type_name, ".json")
    if path is None:
        return ""
    hashes = json.loads(path.read_text(encoding="utf-8")).get("type_hashes", [])
    return next((str(item["hash_string"]) for item in hashes if item["type_name"] == type_name), "")


def _split(type_name: str) -> tuple[str, str]:
    match = _TYPE.fullmatch(type_name)
    if match is None:
        raise ValueError(f"{type_name!r} is not a message type: expected 'package/msg/Type'")
    return match[1], match[2]


def _prefixes() -> Iterator[Path]:
    # The wheels of ROS install into the interpreter's own prefix and set no AMENT_PREFIX_PATH.
    for prefix in (*os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep), sys.prefix):
        if prefix:
            yield Path(prefix)


def _find(type_name: str, suffix: str) -> Path | None:
    package, name = _split(type_name)
    candidates = (prefix / "share" / package / "msg" / f"{name}{suffix}" for prefix in _prefixes())
    return next((path for path in candidates if path.is_file()), None)


def _message_text(type_name: str) -> str:
    path = _find(type_name, ".msg")
    if path is None:
        package, name = _split(type_name)
        raise LookupError(
            f"no definition of {type_name}: expected share/{package}/msg/{name}.msg below "
            f"{', '.join(map(str, _prefixes()))}; build the workspace, or source its set-up file"
        )
    return _read(path)


@cache
def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _dependencies(type_name: str) -> Iterator[str]:
    """Types of the fields that are messages themselves, in order of appearance."""
    package, _ = _split(type_name)
    for line in _message_text(type_name).splitlines():
        match = _FIELD.match(line.split("#", 1)[0])
        if match is None or match[1] in _PRIMITIVES:
            continue
        *owner, name = match[1].split("/")
        yield f"{owner[0] if owner else package}/msg/{name}"

"""What a session heard, written down, and heard again: a fault in the field becomes a test.

A journal is gzipped JSON lines: a head, then one line per input with its time, and where a reference followed, the CRC
of its numbers. Replayed, the same inputs must give the same references, to the bit.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from bytemini_core.types import WholeBodyReference
from bytemini_description.robot import load_robot

from teleop_vr.inputs import Input, from_json, to_json
from teleop_vr.limiter import HandLimits
from teleop_vr.retarget import RetargetConfig
from teleop_vr.session import Outputs, Session

FORMAT = "bytemini-teleop-1"


def checksum(reference: WholeBodyReference) -> int:
    """CRC-32 over every number of a reference and its stamp."""
    base = reference.base
    parts = [np.array([reference.stamp], dtype=np.int64).tobytes()]
    for numbers in (
        reference.position,
        reference.velocity,
        *((base.twist,) if base is not None else ()),
        *(part for hand in reference.hands for part in (hand.pose, hand.twist)),
    ):
        parts.append(numbers.astype("<f8").tobytes())
    return zlib.crc32(b"".join(parts))


class JournalError(ValueError):
    """The file is no journal, or a broken one."""


class Journal:
    """Writes a journal. Also a context manager."""

    def __init__(self, path: Path, robot: str, config: RetargetConfig, toggle: bool) -> None:
        """Begin a file.

        Raises:
            OSError: it cannot be written.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = gzip.open(path, "wt", encoding="utf-8", compresslevel=1)  # noqa: SIM115 - closed by `close`
        self._write({"format": FORMAT, "robot": robot, "config": asdict(config), "toggle": toggle})

    def add(self, now: int, item: Input, out: Outputs) -> None:
        """Write down an input at `now` (ns) and what followed."""
        line = {"t": now, **to_json(item)}
        if out.reference is not None:
            line["reference"] = checksum(out.reference)
        if out.mode is not None:
            line["mode_asked"] = out.mode.value
        self._write(line)

    def _write(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line, separators=(",", ":")) + "\n")

    def close(self) -> None:
        """Finish the file."""
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class Entry:
    """One line: an input at `time` (ns), the checksum of the reference that followed (None: none followed)."""

    time: int
    item: Input
    reference: int | None


def read(path: Path) -> tuple[Session, Iterator[Entry]]:
    """A fresh session as the journal's was, and the journal's entries.

    Raises:
        JournalError: the file is no journal. The iterator raises it for a broken line.
    """
    try:
        file = gzip.open(path, "rt", encoding="utf-8")  # noqa: SIM115 - the iterator closes it
        head = json.loads(file.readline())
        if head["format"] != FORMAT:
            raise ValueError(f"its format is {head['format']!r}, expected {FORMAT!r}")
        config = dict(head["config"])
        config["limits"] = HandLimits(**config["limits"])
        config["base_speed"] = tuple(config["base_speed"])
        session = Session(load_robot(head["robot"]), RetargetConfig(**config), head["toggle"])
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise JournalError(f"{path} is no journal of a teleoperation: {error}") from error

    def entries() -> Iterator[Entry]:
        number = 1
        with file:
            try:
                for line in file:
                    number += 1
                    fields = json.loads(line)
                    reference = fields.pop("reference", None)
                    fields.pop("mode_asked", None)
                    yield Entry(fields.pop("t"), from_json(fields), reference)
            except EOFError:
                return  # the writer was killed: what it wrote until then counts
            except (OSError, ValueError, KeyError) as error:
                raise JournalError(f"{path}, line {number}: {error}") from error

    return session, entries()


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came of a replay. `different`: the number of the first input whose reference differs, None for none."""

    inputs: int
    references: int
    different: int | None
    digest: str


def replay(path: Path) -> Replayed:
    """Feed a journal to a fresh session and compare.

    Raises:
        JournalError: the file is no journal, or a broken one.
    """
    session, entries = read(path)
    count = references = digest = 0
    different = None
    for count, entry in enumerate(entries, 1):
        out = session.feed(entry.time, entry.item)
        found = None if out.reference is None else checksum(out.reference)
        if found is not None:
            references += 1
            digest = zlib.crc32(found.to_bytes(4, "little"), digest)
        if found != entry.reference and different is None:
            different = count
    return Replayed(count, references, different, f"{digest:08x}")

"""The last minute of everything that was said, in memory."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Record:
    """One message: its topic, its serialised bytes, and when it came (`at`: s, monotonic; `stamp`: ns since 1970)."""

    topic: str
    data: bytes
    at: float
    stamp: int


class Ring:
    """Keeps records for `seconds`, and fewer where they would be more than `largest` bytes."""

    def __init__(self, seconds: float, largest: int) -> None:
        """Start empty."""
        self._seconds, self._largest = seconds, largest
        self._records: deque[Record] = deque()
        self.size = 0
        """Bytes held."""

    def add(self, record: Record) -> None:
        """Keep a record; the oldest make room."""
        self._records.append(record)
        self.size += len(record.data)
        while self._records and (self._records[0].at < record.at - self._seconds or self.size > self._largest):
            self.size -= len(self._records.popleft().data)

    def records(self) -> list[Record]:
        """Everything held, oldest first."""
        return list(self._records)

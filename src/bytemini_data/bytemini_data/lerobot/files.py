"""Files that are there whole or not at all, and stay there when the power goes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bytemini_data.lerobot.schema import DatasetError


def sync(path: Path) -> None:
    """Have the disk hold what was written to a file, or the names in a folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_parquet(path: Path, table: pa.Table) -> None:
    """Write a table and have the disk hold it. The writer is closed whatever happens: a file needs its footer."""
    with path.open("wb") as stream:
        pq.write_table(table, stream, compression="snappy")
        stream.flush()
        os.fsync(stream.fileno())


def replace_text(path: Path, text: str) -> None:
    """Replace a file in one step."""
    temporary = path.with_name(f".{path.name}.part")
    with temporary.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)
    sync(path.parent)


def replace_json(path: Path, value: Any) -> None:
    """Replace a JSON file in one step; numbers that are not finite are refused."""
    replace_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def move(source: Path, target: Path) -> None:
    """Move a file within one file system, durably; its folder is made."""
    target.parent.mkdir(parents=True, exist_ok=True)
    source.replace(target)
    sync(target.parent)


def read_parquet(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read one parquet file.

    Raises:
        DatasetError: it is missing, cut short or otherwise corrupt.
    """
    if not path.is_file():
        raise DatasetError(f"{path} is missing")
    try:
        return pq.ParquetFile(path).read(columns=columns)
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise DatasetError(f"{path} is corrupt: {reason}") from None

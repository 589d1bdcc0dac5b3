"""The table of tasks: the index of a task to the instruction in words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from bytemini_data.lerobot.files import read_parquet
from bytemini_data.lerobot.schema import TASKS, DatasetError


def tasks_table(tasks: Sequence[str]) -> pa.Table:
    """The tasks as lerobot reads them: the words are the index of a pandas table.

    Without pandas' own note in the schema the real loader silently gives row numbers in place of instructions.
    """
    note = {
        "index_columns": ["task"],
        "column_indexes": [],
        "columns": [
            _column("task_index", "int64", "int64"),
            _column("task", "unicode", "object"),
        ],
        "pandas_version": "2.0.0",
    }
    schema = pa.schema(
        [("task_index", pa.int64()), ("task", pa.string())], metadata={"pandas": json.dumps(note).encode()}
    )
    return pa.table([list(range(len(tasks))), list(tasks)], schema=schema)


def _column(name: str, kind: str, numpy: str) -> dict[str, object]:
    return {"name": name, "field_name": name, "pandas_type": kind, "numpy_type": numpy, "metadata": None}


def read_tasks(root: Path) -> list[str]:
    """The instructions, in order of their index.

    Raises:
        DatasetError: the file is corrupt, or its index has gaps.
    """
    path = root / TASKS
    table = read_parquet(path)
    words = next((name for name in ("task", "__index_level_0__") if name in table.column_names), None)
    if words is None or "task_index" not in table.column_names:
        raise DatasetError(f"{path}: columns are {', '.join(table.column_names)}, expected task_index and task")
    rows = dict(zip(table["task_index"].to_pylist(), table[words].to_pylist(), strict=True))
    if sorted(rows) != list(range(len(rows))) or not all(isinstance(text, str) for text in rows.values()):
        raise DatasetError(f"{path}: task_index is not 0 to {len(rows) - 1} with a text each")
    return [rows[index] for index in range(len(rows))]

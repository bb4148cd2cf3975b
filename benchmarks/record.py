"""Keeps printed tables in a file of JSON, for texts that quote them."""

import json
from pathlib import Path

from rich.table import Table


def record_at(text: str) -> tuple[str, Path]:
    """Return the table's name and the file that ``NAME:JSON`` names."""
    name, _colon, path = text.partition(":")
    return name, Path(path)


def keep(name: str, path: Path, table: Table) -> None:
    """Add a table to a file's ``figures``, in place of that of the same name."""
    record = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    columns = [[str(cell) for cell in column.cells] for column in table.columns]
    headings = [str(column.header) for column in table.columns]
    rows = [list(row) for row in zip(*columns, strict=True)]
    record.setdefault("figures", {})[name] = {"columns": headings, "rows": rows}
    path.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

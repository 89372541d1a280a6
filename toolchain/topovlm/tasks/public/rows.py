"""Rows of a table, one after the other: parquet and Arrow by pyarrow in a stream, JSON, JSONL, CSV and TSV.

A picture's cell becomes a place (`plain_files.Stored`, or a path beside the table); its bytes are hashed and
let go.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from topovlm import json_text
from topovlm.errors import InputError, MissingToolError, explain
from topovlm.plain_files import MEBIBYTE, Stored, decoded, open_plain, read_plain
from topovlm.tasks.public.record import Benchmark

Row = Mapping[str, Any]
_BATCH = 64  # rows, pictures included, in memory at a time
_MOST_JSON_BYTES = 512 * MEBIBYTE
_FIELD = "--bench"


@dataclass(frozen=True)
class Cell(Stored):
    """A picture in a parquet file's row group or an Arrow file's record batch."""

    path: Path
    group: int
    row: int  # within the group
    column: str
    sha256: str = field(default="", compare=False)

    @property
    def name(self) -> str:
        return f"{self.path.name}: group {self.group}, row {self.row}, {self.column}"

    def read(self) -> bytes:
        try:
            written = self.path.stat()
            column = _column(self.path, self.group, self.column, (written.st_size, written.st_mtime_ns))
            data = _picture_bytes(column[self.row].as_py())
        except (OSError, IndexError):
            data = None
        if data is None:
            raise InputError(explain("picture", self.name, "is no longer there", "The file has changed"))
        return data

    def absolute(self) -> Cell:
        return Cell(self.path.absolute(), self.group, self.row, self.column, self.sha256)


def arrow() -> Any:
    """pyarrow. Raises `MissingToolError` with what installs it."""
    try:
        import pyarrow
    except ImportError:
        rule = "is not installed, and the benchmarks' tables are read with it"
        raise MissingToolError(explain("pyarrow", None, rule, "pip install 'topovlm[bench]'")) from None
    return pyarrow


def rows(record: Benchmark, path: Path) -> Iterator[Row]:
    """Only the columns that are looked at. Raises `InputError` naming a file that is broken or another's."""
    if path.suffix in (".parquet", ".arrow"):
        yield from _from_arrow(record, path)
    elif path.suffix in (".csv", ".tsv"):
        yield from (_beside(record, path, row) for row in _from_csv(path))
    else:
        yield from (_beside(record, path, row) for row in _from_json(record, path))


def _from_arrow(record: Benchmark, path: Path) -> Iterator[Row]:
    pyarrow = arrow()
    read = _parquet_batches if path.suffix == ".parquet" else _arrow_batches
    try:
        for group, start, batch in read(record, path):
            for place, row in enumerate(batch.to_pylist()):
                yield _with_places(record, path, group, start + place, row)
    except (pyarrow.ArrowException, OSError, EOFError) as error:
        rule = f"cannot be read to its end ({str(error).splitlines()[0][:120]})"
        raise InputError(
            explain(_FIELD, str(path), rule, "Fetch it again: it is damaged or cut off")
        ) from None


def _parquet_batches(record: Benchmark, path: Path) -> Iterator[tuple[int, int, Any]]:
    """(row group, row in it, record batch)."""
    from pyarrow import parquet

    with open_plain(path, field=_FIELD), parquet.ParquetFile(path, page_checksum_verification=True) as file:
        columns = _known(record, path, file.schema_arrow.names)
        for group in range(file.num_row_groups):
            start = 0
            for batch in file.iter_batches(_BATCH, row_groups=[group], columns=columns):
                yield group, start, batch
                start += batch.num_rows


def _arrow_batches(record: Benchmark, path: Path) -> Iterator[tuple[int, int, Any]]:
    with open_plain(path, field=_FIELD):
        pass
    reader = arrow().ipc.open_stream(arrow().memory_map(str(path)))
    columns = _known(record, path, reader.schema.names)
    for group, batch in enumerate(reader):
        chosen = batch.select(columns)
        for start in range(0, chosen.num_rows, _BATCH):
            yield group, start, chosen.slice(start, _BATCH)


def _known(record: Benchmark, path: Path, names: Sequence[str]) -> list[str]:
    missing = [column for column in record.needed if column not in names]
    if missing:
        rule = f"has no column {missing[0]}, which {record.title} has; its columns are {', '.join(names)}"
        raise InputError(explain(_FIELD, str(path), rule))
    return [column for column in record.columns if column in names]


def _with_places(record: Benchmark, path: Path, group: int, place: int, row: dict[str, Any]) -> Row:
    for column in record.pictures:
        data = _picture_bytes(row.get(column))
        if data is not None:
            row[column] = Cell(path, group, place, column, hashlib.sha256(data).hexdigest())
        elif isinstance(row.get(column), Mapping):
            row[column] = _path_beside(path, row[column].get("path"))
    return row


def _picture_bytes(cell: Any) -> bytes | None:
    """Of a cell {bytes, path} or of plain bytes; None where it holds none."""
    data = cell.get("bytes") if isinstance(cell, Mapping) else cell
    return data if isinstance(data, bytes) and data else None


@lru_cache(maxsize=4)
def _column(path: Path, group: int, column: str, written: tuple[int, int]) -> Any:
    """Encoded pictures of one group: questions are asked in the order of the file. `written`: its size and
    time, since a file may be replaced."""
    pyarrow = arrow()
    try:
        if path.suffix == ".parquet":
            from pyarrow import parquet

            with parquet.ParquetFile(path, page_checksum_verification=True) as file:
                return file.read_row_group(group, columns=[column])[column]
        reader = pyarrow.ipc.open_stream(pyarrow.memory_map(str(path)))
        return next(batch for number, batch in enumerate(reader) if number == group)[column]
    except (pyarrow.ArrowException, OSError, LookupError, StopIteration) as error:
        rule = f"cannot be read any more ({str(error)[:120]})"
        raise InputError(explain("picture", str(path), rule)) from None


def _from_csv(path: Path) -> Iterator[Row]:
    """Empty cells are missing ones."""
    with open_plain(path, field=_FIELD) as file:
        text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
        csv.field_size_limit(64 * MEBIBYTE)
        try:
            for row in csv.DictReader(text, delimiter="\t" if path.suffix == ".tsv" else ","):
                yield {name: value if value != "" else None for name, value in row.items() if name}
        except (csv.Error, UnicodeDecodeError) as error:
            raise InputError(explain(_FIELD, str(path), f"is not a table in UTF-8 ({error})")) from None


def _from_json(record: Benchmark, path: Path) -> Iterator[Row]:
    """A list of objects, an object of objects by their ids, or one object a line."""
    if path.suffix == ".jsonl":
        with open_plain(path, field=_FIELD) as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield _object(_parsed(line, f"{path}:{number}"), f"{path}:{number}")
        return
    document = _parsed(read_plain(path, field=_FIELD, most_bytes=_MOST_JSON_BYTES), str(path))
    if isinstance(document, dict):
        document = [{record.ident: name, **_object(row, str(path))} if record.ident else row
                    for name, row in document.items()]  # fmt: skip
    if not isinstance(document, list):
        raise InputError(explain(_FIELD, str(path), "must hold a list of rows"))
    yield from (_object(row, str(path)) for row in document)


def _parsed(data: bytes, where: str) -> Any:
    text = decoded(data, field=_FIELD, name=where, mark=True)
    try:
        return json_text.parse(text, constants=True)
    except json_text.NotJsonError as error:
        raise InputError(explain(_FIELD, where, str(error))) from None


def _object(row: Any, where: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise InputError(explain(_FIELD, where, f"a row must be an object, this is a {type(row).__name__}"))
    return row


def _beside(record: Benchmark, path: Path, row: Row) -> Row:
    """Pictures of a text file are paths beside it. MathVista's authors call the column `image`."""
    made = dict(row)
    for column in record.pictures:
        name = made.get(column, made.get("image"))
        made[column] = _path_beside(path, name)
    return made


def _path_beside(path: Path, name: Any) -> Path | None:
    """A file beside the table, or in the folder above it."""
    if not isinstance(name, str) or not name:
        return None
    tried = [path.parent / name, path.parent.parent / name]
    return next((file for file in tried if file.is_file()), tried[0])

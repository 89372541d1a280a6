"""Read and write report.json, and its published JSON Schema."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from topovlm import records
from topovlm.artifacts import plain_disk_errors, temporary_sibling, write_bytes
from topovlm.errors import InputError, explain
from topovlm.plain_files import MEBIBYTE, read_plain
from topovlm.report.document import SCHEMA_VERSION, Report

REPORT_NAME = "report.json"
SCHEMA_PATH = Path(__file__).with_name("report.schema.json")
_REMEDY = "Give a finished run directory or its report.json as topovlm-deploy wrote it"
_MOST_BYTES = 64 * MEBIBYTE


class _Version(msgspec.Struct):
    """What has to be read before the rest can be understood."""

    schema_version: int
    topovlm_version: str = ""


def encode(report: Report) -> bytes:
    """Indented UTF-8 JSON that decodes to an equal report. Raises ValueError on NaN or infinity."""
    data = msgspec.json.encode(report)
    try:  # msgspec writes NaN as null: refuse it here instead of when somebody reads the file
        decoded = msgspec.json.decode(data, type=Report)
    except msgspec.ValidationError as error:
        raise ValueError(f"the report does not survive JSON (NaN or a wrong type?): {error}") from error
    if decoded != report:
        raise ValueError("the report does not survive JSON: NaN, infinity or a list where a tuple belongs")
    return msgspec.json.format(data, indent=1) + b"\n"


def decode(data: bytes, name: str = REPORT_NAME) -> Report:
    """JSON -> Report. Raises `InputError` naming the file, the field that does not fit, and the remedy."""
    found = records.decode(data, _Version, field="report", name=name, remedy=_REMEDY)
    if found.schema_version != SCHEMA_VERSION:
        writer = f" (topovlm {found.topovlm_version} wrote it)" if found.topovlm_version else ""
        rule = f"has schema_version {found.schema_version}{writer}, this topovlm reads {SCHEMA_VERSION}"
        remedy = "Run topovlm-deploy again with this topovlm, or read it with the one that wrote it"
        raise InputError(explain("report", name, rule, remedy))
    return records.decode(data, Report, field="report", name=name, remedy=_REMEDY)


def read_report(path: str | Path) -> Report:
    """Load a report from a run directory or a report.json. Raises `InputError` naming what is wrong."""
    given = Path(path)
    is_run = os.path.isdir(given)
    file = given / REPORT_NAME if is_run else given
    if is_run and not os.path.lexists(file):
        raise InputError(explain("report", str(given), f"has no {REPORT_NAME}", _REMEDY))
    data = read_plain(file, field="report", most_bytes=_MOST_BYTES, remedy=_REMEDY)
    return decode(data, str(file))


def write_atomically(path: str | Path, data: bytes) -> Path:
    """Write a whole file or nothing. Raises `InputError` when the disk or the path refuses."""
    file = Path(path)
    try:
        write_bytes(file, data)
    except OSError as error:
        raise InputError(explain("output", str(file), f"cannot be written: {error.strerror}")) from error
    return file


def write_together(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files of one folder: all of them or none. Raises `InputError` when the disk or a path refuses."""
    staged: dict[Path, Path] = {}
    try:
        for name, data in files.items():
            final = folder / name
            if final.is_dir():
                rule = "is a directory where a file is needed"
                raise InputError(explain("output", str(final), rule, "Name another folder with -o"))
            staged[final] = write_atomically(temporary_sibling(final), data)
        with plain_disk_errors(folder):
            for final, temporary in staged.items():
                os.replace(temporary, final)
    finally:
        for temporary in staged.values():
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def write_report(report: Report, path: str | Path) -> Path:
    """Write report.json (`path` is the file, or the run directory)."""
    given = Path(path)
    return write_atomically(given / REPORT_NAME if given.is_dir() else given, encode(report))


def json_schema() -> dict[str, object]:
    """JSON Schema (draft 2020-12) of report.json, generated from the data model."""
    schema = msgspec.json.schema(Report)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "topovlm report",
        "description": f"report.json of topovlm, schema version {SCHEMA_VERSION}",
        **schema,
    }


def schema_text() -> str:
    """The text of the committed `report.schema.json`."""
    return json.dumps(json_schema(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":  # python -m topovlm.report.store: refresh the committed schema
    write_atomically(SCHEMA_PATH, schema_text().encode())

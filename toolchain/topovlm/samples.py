"""Pictures with a question and, where known, an answer: what calibration and evaluation run on.

Pictures given as paths are opened when they are needed, not before: a data set may be larger than memory.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from topovlm.errors import InputError, explain, located

if TYPE_CHECKING:
    from PIL.Image import Image

_FIELDS = {"image", "prompt", "answer", "category", "family", "metric", "chance", "id", "group"}
_MOST_SHOWN = 60  # characters


@dataclass(frozen=True)
class Sample:
    """One question about zero or more pictures.

    `category` is the kind of question, for accuracy by category. `chance` is the expected score of a guess;
    `group` names what shares a picture (for paired intervals).
    """

    id: str
    images: tuple[Image | Path, ...]
    prompt: str
    answer: str | None = None
    category: str = "user"
    metric: str = "exact"
    chance: float = 0.0
    group: str = ""
    source: str = field(default="", compare=False)

    def load_images(self) -> list[Image]:
        """The pictures as RGB, decoded now. Raises `InputError` naming the sample when one is broken."""
        return [_open_rgb(image, self.source or self.id) for image in self.images]


def _open_rgb(image: Image | Path, where: str) -> Image:
    """As the runtime opens it: upright by its EXIF tag, transparency laid on white."""
    from topovlm.pictures import load_image, to_rgb

    if not isinstance(image, Path):
        return to_rgb(image)
    try:
        return load_image(image)
    except InputError as error:
        raise InputError(located(error, where)) from None


def read_jsonl(path: Path | str, *, check_images: bool = True) -> list[Sample]:
    """One sample per line: `{"image": str | [str], "prompt": str, "answer"?, "category"?, "metric"?, ...}`.

    `family` is an older name of `category`. Relative pictures are sought beside the file. Raises `InputError`
    naming file and line for bad JSON, a missing field, a wrong type, and (with `check_images`) a missing or
    broken picture.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(explain("--data", str(path), "does not exist")) from None
    except UnicodeDecodeError:
        raise InputError(explain("--data", str(path), "is not UTF-8 text", "Give a JSONL file")) from None
    except OSError as error:
        raise InputError(explain("--data", str(path), f"cannot be read ({error.strerror})")) from None
    samples = []
    # Not splitlines(): JSON strings may hold U+2028 and its kin as they are.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            sample = _parse_line(line, path, number)
            if check_images:
                sample.load_images()
            samples.append(sample)
    if not samples:
        raise InputError(explain("--data", str(path), "holds no samples", "Write one JSON object per line"))
    seen: dict[str, str] = {}
    for sample in samples:
        if sample.id in seen:
            raise InputError(explain("id", sample.id, f"is already at {seen[sample.id]}").at(sample.source))
        seen[sample.id] = sample.source
    return samples


def _parse_line(line: str, path: Path, number: int) -> Sample:
    where = f"{path}:{number}"
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        rule = f"is not JSON ({error.msg} at column {error.colno})"
        raise InputError(explain("line", _shown(line), rule).at(where)) from None
    except RecursionError:
        raise InputError(explain("line", _shown(line), "is nested too deeply").at(where)) from None
    if not isinstance(record, dict):
        rule = f"a JSON object is needed, this is a {type(record).__name__}"
        raise InputError(explain("line", _shown(line), rule).at(where))
    unknown = sorted(set(record) - _FIELDS)
    if unknown:
        remedy = f"Known are {', '.join(sorted(_FIELDS))}"
        raise InputError(explain("unknown field", unknown[0], "no sample has it", remedy).at(where))
    images = _images(record, where)
    return Sample(
        id=_text(record, "id", where, default=f"line-{number}"),
        images=tuple(path.parent / image for image in images),
        prompt=_text(record, "prompt", where),
        answer=_text(record, "answer", where) if record.get("answer") is not None else None,
        category=_category(record, where),
        metric=_text(record, "metric", where, default="exact"),
        chance=_chance(record, where),
        group=_text(record, "group", where, default="|".join(images)),
        source=where,
    )


def _shown(line: str) -> str:
    """The beginning of a line, for a message."""
    text = line.strip()
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."


def _category(record: Mapping[str, object], where: str) -> str:
    if "category" in record and "family" in record:
        rule = "is the older name of category: give one of them"
        raise InputError(explain("family", record["family"], rule).at(where))
    return _text(record, "family" if "family" in record else "category", where, default="user")


def _text(record: Mapping[str, object], name: str, where: str, default: str | None = None) -> str:
    value = record.get(name, default)
    if value is None:
        raise InputError(explain(name, None, "is missing").at(where))
    if not isinstance(value, str):
        raise InputError(explain(name, value, "must be a string").at(where))
    if name == "prompt" and not value.strip():
        raise InputError(explain(name, value, "is empty").at(where))
    return value


def _images(record: Mapping[str, object], where: str) -> list[str]:
    value = record.get("image", [])
    images = [value] if isinstance(value, str) else value
    if not isinstance(images, list) or not all(isinstance(image, str) and image for image in images):
        raise InputError(explain("image", value, "must be a path or a list of paths").at(where))
    return images


def _chance(record: Mapping[str, object], where: str) -> float:
    value = record.get("chance", 0.0)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
        raise InputError(explain("chance", value, "must be a number from 0 to below 1").at(where))
    return float(value)

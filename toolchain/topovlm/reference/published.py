"""The reference's files under the names that every release of transformers reads:

    python -m topovlm.reference.published [FOLDER]

Renames tensors and tokenizer fields that do not bear their published names yet; no weight changes. Without a
folder: the shipped model.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from topovlm.artifacts import read_json
from topovlm.checkpoint.published import published_tokenizer, write_published_names
from topovlm.reference import model_dir


def publish(folder: Path) -> int:
    """Rename where needed; how many tensors were renamed."""
    settings = folder / "tokenizer_config.json"
    held = published_tokenizer(read_json(settings))
    settings.write_text(json.dumps(held, indent=2) + "\n", encoding="utf-8")
    return write_published_names(folder)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, help="a checkpoint folder")
    folder = parser.parse_args(argv).folder or model_dir()
    print(f"{publish(folder)} tensors renamed in {folder}")


if __name__ == "__main__":
    main()

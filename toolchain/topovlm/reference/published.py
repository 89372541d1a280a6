"""The names of the reference's tensors, as every release of transformers reads them:

    python -m topovlm.reference.published [FOLDER]

Renames what does not bear its published name yet; no weight changes. Without a folder: the shipped model.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from topovlm.checkpoint.published import write_published_names
from topovlm.reference import model_dir


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, help="a checkpoint folder")
    folder = parser.parse_args(argv).folder or model_dir()
    print(f"{write_published_names(folder)} tensors renamed in {folder}")


if __name__ == "__main__":
    main()

"""Print pip constraints that hold every dependency in pyproject.toml at its lower bound:

    python .ci/lowest.py >lowest.txt && python -m pip install -c lowest.txt ".[test]"

Only what we name ourselves is held; what those packages need comes as pip chooses it.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

_BOUND = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(?:\[[^]]*\])?>=(?P<version>[0-9][0-9.]*)")


def constraint(requirement: str) -> str:
    """`torch>=2.13,<2.14` -> `torch==2.13`. Raises `SystemExit` where a requirement has no lower bound."""
    what, _, marker = requirement.partition(";")
    found = _BOUND.match(what.replace(" ", ""))
    if found is None:
        raise SystemExit(f"{requirement}: has no lower bound; write name>=version")
    return f"{found['name']}=={found['version']}" + (f"; {marker.strip()}" if marker else "")


def main() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    for requirement in [*project["dependencies"], *project["optional-dependencies"]["test"]]:
        print(constraint(requirement))


if __name__ == "__main__":
    main()

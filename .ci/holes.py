"""Known holes in what is installed, by pip-audit's JSON report on standard input; exit code 1 when there is
one.

An index that keeps no list of them, or no network, is no reason to fail: then the report is empty or says
"skipped".
"""

from __future__ import annotations

import json
import sys


def main() -> int:
    try:
        dependencies = json.load(sys.stdin)["dependencies"]
    except (ValueError, KeyError):
        print("known holes: could not be asked for")
        return 0
    skipped = [one["name"] for one in dependencies if "skip_reason" in one]
    holes = [
        f"{one['name']} {one['version']}: {hole['id']} {' '.join(hole.get('aliases', []))}"
        f" (fixed in {', '.join(hole['fix_versions']) or 'no release'})"
        for one in dependencies
        for hole in one.get("vulns", [])
    ]
    asked = len(dependencies) - len(skipped)
    print(f"known holes: {asked} packages asked about, {len(skipped)} not known there")
    for hole in holes:
        print(hole)
    return 1 if holes else 0


if __name__ == "__main__":
    sys.exit(main())

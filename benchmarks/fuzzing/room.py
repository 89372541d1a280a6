"""One case at a time: the spoilt folder, the command, and what is wrong with how it ended."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.fuzzing.forks import Ended, Server
from benchmarks.fuzzing.kinds import Kind, example, spoilt_copy

_KNOWN = (0, 2, 3, 4, 5, 6)  # exit codes that say what is the matter; 1 is an internal error
_MORE_S, _MORE_BYTES = 10.0, 1 << 30
# What a terminal obeys: controls but tab and newline. Directions that hide text are looked for on standard
# error alone, since JSON may hold any text.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_DIRECTIONS = re.compile(r"[\u202a-\u202e\u2066-\u2069]")


# (folder of the examples, command) -> what the undamaged file takes.
Plain = dict[tuple[str, tuple[str, ...]], Ended]


@dataclass(frozen=True)
class Case:
    """A spoilt file and the command that reads it. `seed` is empty for one of the corpus."""

    kind: Kind
    seed: str
    command: tuple[str, ...]
    content: bytes


class Room:
    """The examples, one server, and a folder for one case at a time."""

    def __init__(self, root: Path, examples: Path) -> None:
        self.root, self.examples = root, examples
        self.temporary = root / "tmp"
        for name in ("tmp", "home"):
            (root / name).mkdir(parents=True)
        self.env = {
            **os.environ,
            **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NO_COLOR", "HF_HUB_OFFLINE"), "1"),
            "TMPDIR": str(self.temporary),
            "HOME": str(root / "home"),
            "XDG_STATE_HOME": str(root / "home"),
            "XDG_CACHE_HOME": str(root / "home"),
        }
        # Forks of a small process are quick: what loads torch has a server of its own.
        self.servers = {False: Server(self.env), True: Server(self.env)}

    def run(self, case: Case, *, fresh: bool = False, modules: Path | None = None) -> tuple[Ended, str, str]:
        """How the command ended, its standard output and its standard error."""
        folder, out = self.root / "it", self.root / "out"
        for place in (folder, out):
            shutil.rmtree(place, ignore_errors=True)
            place.unlink(missing_ok=True)
        folder.mkdir()
        spoilt_copy(case.kind, self.examples, folder, case.content)
        words = [word.replace("{it}", str(folder)).replace("{out}", str(out)) for word in case.command]
        streams = self.root / "stdout", self.root / "stderr"
        ended = self.servers[case.kind.slow].run(words, self.examples, streams, fresh=fresh, modules=modules)
        text, errors = (path.read_bytes().decode("utf-8", "replace") for path in streams)
        return ended, text, errors

    def learn(self, kinds: Sequence[Kind], plain: Plain) -> dict[bool, list[str]]:
        """Run the undamaged files: import what their commands import, note in `plain` what they take.

        Returns the modules, for other rooms to load.
        """
        modules: dict[bool, set[str]] = {False: set(), True: set()}
        file = self.root / "modules.json"
        examples = {(kind.base, command): kind for kind in kinds for command in kind.commands}
        for (_, command), kind in examples.items():
            self._undamaged(kind, command, file)
            modules[kind.slow].update(json.loads(file.read_text()))
        found = {slow: sorted(names) for slow, names in modules.items()}
        self.load(found)
        for key, kind in examples.items():
            plain[key] = self._undamaged(kind, key[1])
        return found

    def load(self, modules: Mapping[bool, Sequence[str]]) -> None:
        """Import these once: (for slow commands?) -> names."""
        for slow, names in modules.items():
            self.servers[slow].load(names)
        self._sweep()  # what an import leaves is not a command's

    def _undamaged(self, kind: Kind, command: tuple[str, ...], modules: Path | None = None) -> Ended:
        case = Case(kind, "", command, example(kind, self.examples))
        ended, _, errors = self.run(case, modules=modules)
        if ended.code != 0:
            raise SystemExit(f"{kind.name}: the undamaged file: exit code {ended.code}: {errors[-500:]}")
        return ended

    def close(self) -> None:
        for server in self.servers.values():
            server.close()

    def why(self, ended: Ended, text: str, errors: str, plain: Ended) -> str | None:
        """What is wrong with an ending, beside that of the undamaged file; None when nothing is."""
        left = self._sweep()
        faults = {
            "over 1 GB": ended.stopped == "memory" or ended.peak_bytes > plain.peak_bytes + _MORE_BYTES,
            "over 10 s": ended.stopped == "time" or ended.cpu_s > plain.cpu_s + _MORE_S,
            "traceback": "Traceback (most recent call last)" in errors or "internal error" in errors,
            f"exit code {ended.code}": ended.code not in _KNOWN,
            "no sentence": ended.code != 0 and not errors.strip(),
            "control characters": bool(
                _CONTROLS.search(text) or _CONTROLS.search(errors) or _DIRECTIONS.search(errors)
            ),
            f"left behind: {left}": left is not None,
        }
        return next((words for words, found in faults.items() if found), None)

    def _sweep(self) -> str | None:
        """Empty the folder for temporary files; returns the name of one that was left there."""
        found = sorted(self.temporary.iterdir())
        for path in found:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        left = [path for path in found if not path.name.startswith("torchinductor_")]  # torch's compiler's
        return left[0].name if left else None

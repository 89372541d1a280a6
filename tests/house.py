"""The floors of the house, from the ground up, and what its modules import: `test_house` holds them to it."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1] / "toolchain" / "topovlm"

# A room (a package or a module) may import from rooms on lower floors, and within itself. Nothing climbs.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("text", "exit_codes", "version", "process"),
    ("errors",),
    ("plain_files", "json_text", "linked"),
    ("units", "registry", "console", "workload", "pictures", "completion", "toml"),
    ("artifacts", "videos"),
    ("records", "failures"),
    ("travel", "stats", "samples"),
    ("machine", "families", "topology"),
    ("predict", "runtime", "towers", "native", "workers"),
    ("planner", "checkpoint"),
    ("evaluation", "exporters"),
    ("measure", "choose", "reference"),
    ("report", "tasks", "harness"),
    ("config",),
    ("pipeline",),
    ("sweeps",),
    ("api",),
    ("",),  # the package itself: it gives what `api` holds
    ("commands",),
    ("cli",),
    ("__main__",),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Dotted name below `topovlm` -> file; a package by its own name."""
    found = {}
    for path in root.rglob("*.py"):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(root: Path = ROOT) -> dict[str, set[str]]:
    """Module -> modules of ours that it imports: anywhere in the file, also for types alone."""
    known = modules(root)
    graph: dict[str, set[str]] = defaultdict(set)
    for name, path in known.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "topovlm":
                base = (node.module or "").removeprefix("topovlm").removeprefix(".")
                for alias in node.names:
                    whole = f"{base}.{alias.name}".removeprefix(".")
                    graph[name].add(whole if whole in known else base)
            elif isinstance(node, ast.Import):
                graph[name] |= {
                    alias.name.removeprefix("topovlm.")
                    for alias in node.names
                    if alias.name.startswith("topovlm.")
                }
    return graph


def relative_imports() -> list[tuple[str, int]]:
    """Modules with imports that do not say whose they are, and their dots: `imports` does not see them."""
    return sorted(
        (module, node.level)
        for module, path in modules().items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.level
    )


def modules_by_name() -> list[tuple[str, str]]:
    """(module, module of ours that it names in a string): what `import_module` or `python -m` is given."""
    known = modules()
    found = set()
    for module, path in known.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                name = node.value.partition(":")[0]  # `module:name`, as an entry point has it
                if re.match(r"topovlm\.\w", name) and name.removeprefix("topovlm.") in known:
                    found.add((module, name.removeprefix("topovlm.")))
    return sorted(found)


def unexplained() -> list[str]:
    """Errors for the user that are raised with a bare text, as `module:line`: their parts are not known."""
    kinds = {"InputError", "BudgetError", "MissingToolError", "VerificationError"}
    return [
        f"{module}:{node.lineno}"
        for module, path in modules().items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Raise)
        and isinstance(node.exc, ast.Call)
        and isinstance(node.exc.func, ast.Name)
        and node.exc.func.id in kinds
        and not (node.exc.args and isinstance(node.exc.args[0], ast.Call))
    ]


def parsers() -> dict[str, set[str]]:
    """What reads JSON or TOML text (`json.loads`, ...) -> modules that call it."""
    found: dict[str, set[str]] = defaultdict(set)
    for module, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr in {"load", "loads", "decode"}:
                name = ast.unparse(node)
                if name.partition(".")[0] in {"json", "tomllib", "tomli"} or name == "msgspec.json.decode":
                    found[name].add(module)
    return found


def loads_that_trust(root: Path = ROOT) -> list[str]:
    """Calls of `from_pretrained` that do not say `trust_remote_code=False`, as `file:line`."""
    return [
        f"{path.name}:{node.lineno}"
        for path in sorted(root.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "from_pretrained"
        and not any(word.arg == "trust_remote_code" and _is_false(word.value) for word in node.keywords)
    ]


def _is_false(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value is False


def room_of(module: str) -> str:
    return module.partition(".")[0]


def climbs() -> list[str]:
    """Imports, stated or by name, that lead to other rooms of the floor or upstairs: `from -> to`."""
    stated = [(module, other) for module, others in imports().items() for other in others]
    return sorted(
        f"{module} -> {other}"
        for module, other in {*stated, *modules_by_name()}
        if room_of(module) != room_of(other) and FLOOR[room_of(other)] >= FLOOR[room_of(module)]
    )


def circles(root: Path = ROOT) -> list[list[str]]:
    """Groups of modules that import each other, directly or through others (Tarjan)."""
    graph = imports(root)
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph.get(node, ())):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in sorted(modules(root)):
        if node not in index:
            visit(node)
    return found


def mutual(root: Path = ROOT) -> list[tuple[str, str]]:
    """Pairs of rooms that import from each other."""
    pairs = {
        (room_of(module), room_of(other)) for module, others in imports(root).items() for other in others
    }
    return sorted((a, b) for a, b in pairs if a < b and (b, a) in pairs)


def shares(root: Path = ROOT) -> dict[str, float]:
    """Room -> its share of all lines of Python."""
    lines: dict[str, int] = defaultdict(int)
    for name, path in modules(root).items():
        lines[room_of(name)] += len(path.read_text(encoding="utf-8").splitlines())
    return {room: count / sum(lines.values()) for room, count in lines.items()}


def private_reaches() -> list[str]:
    """Underscore names of ours that another module imports, as `module: name`."""
    found = []
    for module, path in modules().items():
        ours = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "topovlm":
                ours |= {alias.asname or alias.name for alias in node.names}
                found += [f"{module}: {alias.name}" for alias in node.names if _private(alias.name)]
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                name = node.value.id
                found += [f"{module}: {name}.{node.attr}"] if name in ours and _private(node.attr) else []
    return sorted(found)


def _private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")

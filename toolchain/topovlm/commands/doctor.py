"""Look at this machine: versions, execution providers, optional tools; say what is missing and how to get it.

Exit code 5 when something that every command needs is missing.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from importlib import util

from topovlm.console import print_json, say, table
from topovlm.errors import InputError
from topovlm.exit_codes import ExitCode
from topovlm.machine.environment import versions
from topovlm.records import plain
from topovlm.units import format_bytes

# import name -> what it is for; all are dependencies of the package
_REQUIRED = {
    "torch": "reads the dense model",
    "transformers": "reads the dense model",
    "safetensors": "layer surgery",
    "numba": "topology",
    "onnx": "export",
    "onnxscript": "export",
    "onnxruntime": "runs exported models",
    "tokenizers": "runs exported models",
    "PIL": "runs exported models",
    "msgspec": "reports",
    "matplotlib": "reports",
}


@dataclass(frozen=True)
class Finding:
    """One line of the doctor: a thing, its state, and what to do about it."""

    name: str
    state: str  # ok, missing, absent (optional), conflict
    version: str
    use: str
    remedy: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No flags of its own."""


def run(args: argparse.Namespace) -> int:
    from topovlm.machine.environment import describe_machine

    machine = describe_machine()
    findings = [_required(name, use) for name, use in _REQUIRED.items()]
    findings += _conflicts()
    findings += _exporters()
    providers = _providers()
    missing = [finding for finding in findings if finding.state == "missing"]
    if args.json:
        rows = [asdict(finding) for finding in findings]
        print_json({"machine": plain(machine), "packages": rows, "providers": providers, "ok": not missing})
    else:
        memory = format_bytes(machine.memory_available_bytes or 0)
        say(f"{machine.cpu}, {machine.usable_cores} usable cores, {machine.system}, {memory} of memory free")
        for gpu in machine.gpus:
            say(f"  GPU: {', '.join(gpu.values())}")
        say(f"  ONNX Runtime runs on: {', '.join(providers) or 'nothing'}")
        for warning in machine.warnings():
            say(f"  note: {warning}")
        rows_text = [(f.name, f.state, f.version or "-", f.use, f.remedy) for f in findings]
        table("", ("package", "state", "version", "for", "how to get it"), rows_text)
    return ExitCode.MISSING if missing else ExitCode.DONE


def _version(name: str) -> str:
    from importlib import metadata

    for distribution in metadata.packages_distributions().get(name, []):
        return metadata.version(distribution)
    return ""


def _required(name: str, use: str) -> Finding:
    if util.find_spec(name) is None:
        return Finding(name, "missing", "", use, "pip install --force-reinstall topovlm")
    return Finding(name, "ok", _version(name), use)


def _optional(name: str, use: str, remedy: str) -> Finding:
    if util.find_spec(name) is None:
        return Finding(name, "absent", "", f"{use} (optional)", remedy)
    return Finding(name, "ok", _version(name), use)


def _exporters() -> list[Finding]:
    """What exporters can use, and plug-ins that do not load."""
    from topovlm.exporters import EXPORTERS

    findings = []
    for name in EXPORTERS.names():
        try:
            tools = EXPORTERS[name].tools
        except InputError as error:
            findings.append(Finding(name, "conflict", "", "an exporter", str(error)))
            continue
        findings += [_optional(tool.package, tool.use, tool.remedy) for tool in tools]
    return findings


def _conflicts() -> list[Finding]:
    """The CPU and the GPU build of ONNX Runtime, installed over each other."""
    both = ("onnxruntime", "onnxruntime-gpu")
    found = versions(both)
    if len(found) < len(both):
        return []
    from topovlm.runtime.sessions import GPU_BUILD

    told = ", ".join(f"{name} {found[name]}" for name in both)
    return [Finding(" + ".join(both), "conflict", told, "they overwrite each other's files", GPU_BUILD)]


def _providers() -> list[str]:
    """Execution providers that this ONNX Runtime was built with; a GPU one may still fail to start."""
    if util.find_spec("onnxruntime") is None:
        return []
    import onnxruntime

    return [name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers()]

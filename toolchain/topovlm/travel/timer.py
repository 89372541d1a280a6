"""Times exported graphs on a board: numpy, and the package of one backend. Python >= 3.8.

    python3 -m travel.timer probe PACKAGE ... | time | footprint NAME

`probe` prints what this Python has. `time` runs the cases of request.json (an engine and its prompts) in
turns, each once per round, and prints every round: what is measured is known elsewhere at once, whatever
happens to this process. `footprint NAME` prints the memory of one engine, alone in its process. What is said
to the other side (`measure.ssh.messages`) is a line of JSON behind a mark: libraries print too.

A line `stop` on standard input ends the run after the present round. When standard input ends, so does
this process, and the folder that it runs in goes: nobody is there to fetch anything.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import shutil
import sys
import threading
from collections.abc import Mapping
from time import perf_counter
from typing import Any

from .failure import Failure

MARK = "topovlm-timer:"
PREFIX = "topovlm-board-"  # of the folder that the agent made
FAILED = 3  # exit status: a reason was printed


def say(kind: str, **message: object) -> None:
    """One message to the other side."""
    print(MARK + json.dumps(dict(message, kind=kind)), flush=True)


class Listener:
    """Hears `stop`, and the end of the other side."""

    def __init__(self) -> None:
        self.stopped = False
        self.thread = threading.Thread(target=self.listen, daemon=True)
        self.thread.start()

    def listen(self) -> None:
        """Until standard input ends."""
        folder = os.getcwd()
        for line in sys.stdin:
            self.stopped = self.stopped or line.strip() == "stop"
        if os.path.basename(folder).startswith(PREFIX):  # never what somebody else keeps
            for _ in range(3):  # the other threads may be writing
                shutil.rmtree(folder, ignore_errors=True)
        os._exit(1)


def runtimes(packages: list[str]) -> dict[str, object]:
    """Versions and providers of what this Python can import, and why it cannot."""
    found, lacking, providers = {}, {}, []
    for name in packages:
        try:
            module: Any = importlib.import_module(name)
            found[name] = str(module.__version__)
            if hasattr(module, "get_available_providers"):
                providers = module.get_available_providers()
        except Exception as error:  # a broken library raises what it likes
            lacking[name] = f"{type(error).__name__}: {error}"
    trtexec = shutil.which("trtexec") or "/usr/src/tensorrt/bin/trtexec"
    return {
        "python": sys.executable,
        "versions": found,
        "lacking": lacking,
        "providers": providers,
        "trtexec": trtexec if os.access(trtexec, os.X_OK) else None,
    }


def open_prompts() -> list[Any]:
    """Every prompt as a `prompts.Prompt`."""
    import numpy as np

    prompts = importlib.import_module(".prompts", __package__)
    with np.load("prompts.npz") as data:
        found: list[Any] = prompts.unpack(dict(data))
    return found


def opener(request: Mapping[str, Any]) -> Any:
    """`open_engine` of the backend's module."""
    return importlib.import_module("." + request["module"], __package__).open_engine


def time_engines(request: Mapping[str, Any], listener: Listener) -> None:
    """Rounds until told to stop, or the request's limits; every round is said."""
    import numpy as np

    prompts, rules, open_engine = open_prompts(), request["rules"], opener(request)
    engines: dict[str, Any] = {}
    for name, facts in request["engines"].items():
        engines[name] = engine = open_engine(facts, request)
        say(
            "loaded",
            name=name,
            load_ms=engine.load_ms,
            threads=engine.threads,
            providers=engine.providers,
            dtype=engine.dtype,
        )
    cases = {case["name"]: case for case in request["cases"]}
    for _ in range(rules["warmup"]):
        for case in cases.values():
            engines[case["engine"]].generate(prompts[case["prompts"][0]])
    rng, names = np.random.RandomState(rules["seed"]), list(cases)
    gc.collect()
    gc.disable()  # a collection in the middle of a step would be timed as the model's
    started, stopped = perf_counter(), "rounds"
    for index in range(rules["max_rounds"]):
        order, runs = [names[place] for place in rng.permutation(len(names))], {}
        for name in order:
            chosen = cases[name]["prompts"]
            run = engines[cases[name]["engine"]].generate(prompts[chosen[index % len(chosen)]])
            times = {"vision_ms": run.vision_ms, "embed_ms": run.embed_ms, "prefill_ms": run.prefill_ms}
            runs[name] = dict(times, token_ms=run.token_ms)
        spent = perf_counter() - started
        say("round", spent_s=spent, order=order, runs=runs)
        # The minimum may be cut short by four times the limit: a slow model must not hang the caller.
        enough = index + 1 >= rules["min_rounds"]
        if spent > rules["time_limit_s"] * (1 if enough else 4):
            stopped = "time"
            break
        if listener.stopped:
            stopped = "precise"
            break
    say("done", stopped=stopped)


def resident_bytes(field: str) -> int:
    """Resident memory of this process by Linux's name: `VmRSS` now, `VmHWM` at its highest."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(field + ":"))


def footprint(request: Mapping[str, Any], name: str) -> None:
    """Resident memory of the libraries alone, and at the peak of one generation."""
    prompts, open_engine = open_prompts(), opener(request)
    importlib.import_module(request["package"])
    libraries = resident_bytes("VmRSS")
    engine = open_engine(request["engines"][name], request)
    engine.generate(prompts[request["footprint_prompt"]])
    peak = resident_bytes("VmHWM")
    say("footprint", name=name, libraries_bytes=libraries, peak_bytes=peak, load_ms=engine.load_ms)


def fail(reason: str, text: str) -> int:
    """Say why it did not work; the exit status."""
    say("failure", reason=reason, text=text)
    return FAILED


def main(argv: list[str], listener: Listener) -> int:
    """Command line; returns the exit status."""
    try:
        if argv[0] == "probe":
            say("runtimes", **runtimes(argv[1:]))
            return 0
        with open("request.json") as file:
            request = json.load(file)
        if argv[0] == "time":
            time_engines(request, listener)
        else:
            footprint(request, argv[1])
    except Failure as failure:
        return fail(failure.kind, str(failure))
    except RuntimeError as error:
        return fail("graph", str(error))
    except MemoryError:
        return fail("memory", "this process ran out of memory")
    except ImportError as error:
        return fail("runtime", str(error))
    return 0


if __name__ == "__main__":
    ears = Listener()
    try:
        status = main(sys.argv[1:], ears)
    except BrokenPipeError:  # nobody reads any more: the listener hears of it too, and tidies up
        ears.thread.join()
    os._exit(status)  # the listener's thread blocks on standard input

"""Times exported graphs on a board. Travels as source text; Python >= 3.8, numpy, ONNX Runtime or TensorRT.

    python3 board_timer.py probe | time | footprint NAME

`probe` prints what this Python has. `time` runs the cases of request.json (an engine and its prompts) in
turns, each once per round, and prints every round as a line of JSON: what is measured is known elsewhere at
once, whatever happens to this process. `footprint NAME` prints the memory of one engine, alone in its
process.

A line `stop` on standard input ends the run after the present round. When standard input ends, so does
this process, and the folder that it runs in goes: nobody is there to fetch anything.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import sys
import threading
from time import perf_counter

from board_engine import Engine, Failure

PACKAGES = ("numpy", "onnxruntime", "tensorrt")
PREFIX = "topovlm-board-"  # of the folder that the agent made
FAILED = 3  # exit status: a reason was printed


def say(**message):
    print(json.dumps(message), flush=True)


class Listener:
    """Hears `stop`, and the end of the other side."""

    def __init__(self):
        self.stopped = False
        self.thread = threading.Thread(target=self.listen, daemon=True)
        self.thread.start()

    def listen(self):
        folder = os.getcwd()
        for line in sys.stdin:
            self.stopped = self.stopped or line.strip() == "stop"
        if os.path.basename(folder).startswith(PREFIX):  # never what somebody else keeps
            for _ in range(3):  # the other threads may be writing
                shutil.rmtree(folder, ignore_errors=True)
        os._exit(1)


def runtimes():
    """Versions and providers of what this Python can import, and why it cannot."""
    import importlib

    found, lacking = {}, {}
    for name in PACKAGES:
        try:
            found[name] = str(importlib.import_module(name).__version__)
        except Exception as error:  # a broken library raises what it likes
            lacking[name] = f"{type(error).__name__}: {error}"
    providers = []
    if "onnxruntime" in found:
        import onnxruntime

        providers = onnxruntime.get_available_providers()
    trtexec = shutil.which("trtexec") or "/usr/src/tensorrt/bin/trtexec"
    return {
        "python": sys.executable,
        "versions": found,
        "lacking": lacking,
        "providers": providers,
        "trtexec": trtexec if os.access(trtexec, os.X_OK) else None,
    }


def open_prompts(request):
    import numpy as np

    with np.load("prompts.npz") as data:
        held = dict(data)
    return [(held[f"ids{i}"], held.get(f"pixels{i}")) for i in range(request["prompts"])]


def engine_class(request):
    if request["backend"] == "tensorrt":
        from board_tensorrt import TensorRTEngine

        return TensorRTEngine
    return Engine


def time_engines(request, listener):
    """Rounds until told to stop, or the request's limits; every round is printed."""
    import numpy as np

    prompts, rules = open_prompts(request), request["rules"]
    engines = {}
    kind = engine_class(request)
    for name, facts in request["engines"].items():
        engines[name] = engine = kind(name, facts, request)
        say(kind="loaded", name=name, **engine.describe())
    cases = {case["name"]: case for case in request["cases"]}
    for _ in range(rules["warmup"]):
        for case in cases.values():
            engines[case["engine"]].generate(*prompts[case["prompts"][0]])
    rng, names = np.random.RandomState(rules["seed"]), list(cases)
    gc.collect()
    gc.disable()  # a collection in the middle of a step would be timed as the model's
    started, stopped = perf_counter(), "rounds"
    for index in range(rules["max_rounds"]):
        order, runs = [names[place] for place in rng.permutation(len(names))], {}
        for name in order:
            chosen = cases[name]["prompts"]
            runs[name] = engines[cases[name]["engine"]].generate(*prompts[chosen[index % len(chosen)]])
        spent = perf_counter() - started
        say(kind="round", spent_s=spent, order=order, runs=runs)
        # The minimum may be cut short by four times the limit: a slow model must not hang the caller.
        enough = index + 1 >= rules["min_rounds"]
        if spent > rules["time_limit_s"] * (1 if enough else 4):
            stopped = "time"
            break
        if listener.stopped:
            stopped = "precise"
            break
    say(kind="done", stopped=stopped)


def resident_bytes(field):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(field))


def footprint(request, name):
    """Resident memory of the libraries alone, and at the peak of one generation."""
    prompts = open_prompts(request)
    import onnxruntime  # noqa: F401

    libraries = resident_bytes("VmRSS:")
    engine = Engine(name, request["engines"][name], request)
    engine.generate(*prompts[request["footprint_prompt"]])
    peak = resident_bytes("VmHWM:")
    say(kind="footprint", libraries_bytes=libraries, peak_bytes=peak, load_ms=engine.load_ms)


def main(argv, listener):
    try:
        if argv[0] == "probe":
            say(kind="runtimes", **runtimes())
            return 0
        with open("request.json") as file:
            request = json.load(file)
        if argv[0] == "time":
            time_engines(request, listener)
        else:
            footprint(request, argv[1])
    except Failure as failure:
        say(kind="failure", reason=failure.kind, text=str(failure))
        return FAILED
    except RuntimeError as error:
        say(kind="failure", reason="graph", text=str(error))
        return FAILED
    except MemoryError:
        say(kind="failure", reason="memory", text="this process ran out of memory")
        return FAILED
    except ImportError as error:
        say(kind="failure", reason="runtime", text=str(error))
        return FAILED
    return 0


if __name__ == "__main__":
    ears = Listener()
    try:
        status = main(sys.argv[1:], ears)
    except BrokenPipeError:  # nobody reads any more: the listener hears of it too, and tidies up
        ears.thread.join()
    os._exit(status)  # the listener's thread blocks on standard input

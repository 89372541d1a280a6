"""An exported folder on ONNX Runtime, for a board. Travels beside `board_timer`; Python >= 3.8."""

from __future__ import annotations

import os
from time import perf_counter

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"


class Failure(Exception):
    """`kind` for the program: runtime, provider, graph, memory; the text for a person."""

    def __init__(self, kind, text):
        super().__init__(text)
        self.kind = kind


class Engine:
    """One exported folder, opened; the same steps as `topovlm.runtime.engine`."""

    def __init__(self, name, facts, request):
        import onnxruntime as ort

        self.ort, self.name, self.facts = ort, name, facts
        self.image_token_id, self.new_tokens = request["image_token_id"], request["new_tokens"]
        self.threads = request["threads"] or len(os.sched_getaffinity(0))
        start = perf_counter()
        self.providers = choose_providers(ort, request["providers"])
        self.vision = self.open(facts["vision"])
        self.embed = self.open(facts["embed"])
        self.decoder = self.open(facts["decoder"])
        self.load_ms = (perf_counter() - start) * 1e3
        self.pixel_type = types(self.vision)
        self.id_type = types(self.embed)
        self.types = types(self.decoder)
        self.pasts = [node for node in self.decoder.get_inputs() if node.name.startswith("past_key_values.")]
        self.presents = [node.name.replace("past_key_values.", "present.") for node in self.pasts]
        self.device = "cuda" if self.decoder.get_providers()[0] in (CUDA, TENSORRT) else None

    def open(self, path):
        options = self.ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            session = self.ort.InferenceSession(path, options, providers=self.providers)
        except Exception as error:  # its exceptions share no base class but this one
            words = " ".join(str(error).split())[:300]
            kind = "memory" if "alloc" in words.lower() or "out of memory" in words.lower() else "graph"
            raise Failure(kind, f"{path}: {words}") from None
        used = session.get_providers()[0]
        if used != self.providers[0]:
            raise Failure("provider", f"{self.providers[0]} did not start, {used} did")
        session.disable_fallback()
        return session

    def describe(self):
        import numpy as np

        sessions = {"vision": self.vision, "embed": self.embed, "decoder": self.decoder}
        return {
            "load_ms": self.load_ms,
            "threads": self.threads,
            "providers": {name: session.get_providers() for name, session in sessions.items()},
            "dtype": np.dtype(self.types["inputs_embeds"]).name,
        }

    def see(self, pixels):
        ((name, dtype),) = self.pixel_type.items()
        return self.vision.run(None, {name: pixels.astype(dtype, copy=False)})[0]

    def tokens(self, ids):
        ((name, dtype),) = self.id_type.items()
        return self.embed.run(None, {name: ids.astype(dtype)})[0]

    def generate(self, ids, pixels):
        """One prompt, always all new tokens; times of the phases in ms."""
        started = perf_counter()
        features = None if pixels is None else self.see(pixels)
        seen = perf_counter()
        embeds = self.tokens(ids[None])
        if features is not None:
            flat = features.reshape(-1, features.shape[-1])
            embeds[ids[None] == self.image_token_id] = flat.astype(embeds.dtype, copy=False)
        embedded = perf_counter()
        token, cache = self.step(embeds, self.empty_cache(), 0)
        clock = perf_counter()
        prefill_ms, past = (clock - embedded) * 1e3, embeds.shape[1]
        token_ms: list[float] = []
        while len(token_ms) < self.new_tokens - 1:
            clock = perf_counter()
            token, cache = self.step(self.tokens(token[None]), cache, past)
            token_ms.append((perf_counter() - clock) * 1e3)
            past += 1
        return {
            "vision": (seen - started) * 1e3 if features is not None else 0.0,
            "embed": (embedded - seen) * 1e3,
            "prefill": prefill_ms,
            "token": token_ms,
        }

    def empty_cache(self):
        import numpy as np

        shapes = [(1, node.shape[1], 0, node.shape[3]) for node in self.pasts]
        dtypes = [self.types[node.name] for node in self.pasts]
        make = self.ort.OrtValue.ortvalue_from_numpy
        return [make(np.zeros(*pair)) for pair in zip(shapes, dtypes)]  # noqa: B905

    def step(self, embeds, cache, past):
        """Next token `[1]` and the new cache, which stays on the device."""
        import numpy as np

        size = embeds.shape[1]
        feeds = {
            "inputs_embeds": embeds,
            "attention_mask": np.ones((1, past + size), np.int64),
            "position_ids": np.arange(past, past + size)[None],
            "num_logits_to_keep": np.asarray(1),
        }
        make = self.ort.OrtValue.ortvalue_from_numpy
        values = {
            name: make(np.ascontiguousarray(value, self.types[name]))
            for name, value in feeds.items()
            if name in self.types
        }
        values.update(zip([node.name for node in self.pasts], cache))  # noqa: B905
        if self.device is None:
            results = self.decoder.run_with_ort_values(["logits", *self.presents], values)
        else:
            results = self.bound(values)
        return results[0].numpy()[:, -1].argmax(-1), results[1:]

    def bound(self, values):
        """With outputs bound to the device: otherwise the cache would travel to the host and back."""
        binding = self.decoder.io_binding()
        for name, value in values.items():
            binding.bind_ortvalue_input(name, value)
        binding.bind_output("logits", "cpu")
        for name in self.presents:
            binding.bind_output(name, self.device)
        self.decoder.run_with_iobinding(binding)
        return binding.get_outputs()


def choose_providers(ort, wanted):
    """What was asked for, or the GPU where this build of ONNX Runtime knows it; the CPU comes last."""
    present = ort.get_available_providers()
    chosen = wanted or ([CUDA] if CUDA in present else [])
    for name in chosen:
        if name not in present:
            raise Failure("provider", "{} is not in this onnxruntime ({})".format(name, ", ".join(present)))
    if TENSORRT in chosen and CUDA in present and CUDA not in chosen:
        chosen = [*chosen, CUDA]  # for what TensorRT does not take
    return [name for name in chosen if name != CPU] + [CPU]


def types(session):
    """Input name -> numpy type."""
    import numpy as np

    known = {
        "tensor(float)": np.float32,
        "tensor(float16)": np.float16,
        "tensor(int64)": np.int64,
        "tensor(int32)": np.int32,
        "tensor(bool)": np.bool_,
    }
    strange = [node.type for node in session.get_inputs() if node.type not in known]
    if strange:
        raise Failure("graph", f"{strange[0]} is an input type that cannot be fed")
    return {node.name: known[node.type] for node in session.get_inputs()}

"""What the machine can do by itself: memory bandwidth, and matrix products at the model's own shapes.

    python -m topovlm.measure.microbench DIR            (an exported folder)

Products run in ONNX Runtime, the runtime that ships, with weights as constants as in the model. Their time
is a difference: a graph of several products less a graph of one, so that the cost of a call drops out.
Bandwidth is counted as STREAM counts it: bytes read plus bytes written.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from topovlm.errors import InputError, MissingToolError, VerificationError, explain
from topovlm.machine.environment import Environment, describe_machine
from topovlm.machine.host import free_memory_bytes, usable_cores
from topovlm.machine.telemetry import last_level_cache_bytes
from topovlm.measure.products import decoder_products, free_product_graph, product_graph
from topovlm.measure.settings import RunSettings
from topovlm.records import Part, encode
from topovlm.stats.robust import Summary, summarise
from topovlm.travel.ort_graphs import device_of

if TYPE_CHECKING:
    import onnxruntime as ort
    from onnx import ModelProto

_CACHES = 8  # a buffer of so many times the last cache is in memory, whatever was done before
_LEAST_BUFFER_BYTES = 64 << 20
_MOST_BUFFER_BYTES = 1 << 30
_COPIES = 8  # products in the larger graph, each with weights of its own
_MOST_WEIGHT_BYTES = 256 << 20
_LARGE = (512, 1024, 2048, 4096, 8192)  # square products that show the peak
_LARGE_LIMIT_S = 0.25  # one of them must not take longer


class Rate(Part, frozen=True, kw_only=True):
    """10^9 units of work per second, measured: bytes for bandwidth, operations for products."""

    giga_per_s: float
    spread: float  # relative half-width of the 95 % interval
    ms: float
    runs: int

    @classmethod
    def of(cls, work: float, summary: Summary) -> Rate:
        """From samples of the time that `work` took."""
        return cls(
            giga_per_s=work / summary.median_ms / 1e6,
            spread=summary.relative_width,
            ms=summary.median_ms,
            runs=summary.count,
        )


class Peak(Part, frozen=True, kw_only=True):
    """The fastest square product, `[size, size]` times itself; the rate in GFLOP/s."""

    size: int
    rate: Rate


class Product(Part, frozen=True, kw_only=True):
    """A product of the decoder, `[tokens, inner]` times weights `[inner, outer]`; the graph has `count`."""

    inner: int
    outer: int
    count: int
    tokens: int
    us: float
    gflop_per_s: float
    share_of_peak: float
    gb_per_s: float  # of weights
    share_of_bandwidth: float
    spread: float


class MachineRates(Part, frozen=True, kw_only=True):
    """What a machine does by itself. Bandwidth in GB/s; `quantised`: products that were not measured."""

    kind: Literal["measured"] = "measured"
    provider: str
    threads: int
    dtype: str
    buffer_bytes: int
    copy_bandwidth: Rate
    read_bandwidth: Rate
    peak: Peak
    products: tuple[Product, ...]
    quantised: int
    environment: Environment


def measure_machine(
    folder: str | Path,
    *,
    tokens: Sequence[int] = (1, 64),
    run: RunSettings | None = None,
    time_limit_s: float = 20.0,
    buffer_bytes: int | None = None,
) -> MachineRates:
    """Bandwidth, peak, and every product of the decoder at `tokens` rows (1: decoding).

    Raises `InputError` for a folder that is no export, `MissingToolError` for an absent provider.
    """
    from topovlm.runtime.manifest import load_manifest
    from topovlm.runtime.sessions import provider_names

    run = run or RunSettings()
    manifest = load_manifest(folder)
    shapes, quantised, dtype = decoder_products(manifest.decoders[manifest.resolve(run.variant)])
    names, threads = provider_names(run.providers), run.threads or usable_cores()
    size = buffer_bytes or buffer_size()
    bench = _Bench(names, threads, time_limit_s / (len(shapes) * len(tokens) + 4))
    copied, read, peak = bench.copy_rate(size), bench.read_rate(size, dtype), bench.peak_rate(dtype)
    products = []
    for (inner, outer), count in sorted(shapes.items()):
        for rows in sorted(set(tokens)):
            rate = bench.product_rate(rows, inner, outer, dtype)
            gb_per_s = inner * outer * dtype.itemsize / rate.ms / 1e6
            products.append(
                Product(
                    inner=inner,
                    outer=outer,
                    count=count,
                    tokens=rows,
                    us=rate.ms * 1e3,
                    gflop_per_s=rate.giga_per_s,
                    share_of_peak=rate.giga_per_s / peak.rate.giga_per_s,
                    gb_per_s=gb_per_s,
                    share_of_bandwidth=gb_per_s / read.giga_per_s,
                    spread=rate.spread,
                )
            )
    return MachineRates(
        provider=names[0],
        threads=threads,
        dtype=dtype.name,
        buffer_bytes=size,
        copy_bandwidth=copied,
        read_bandwidth=read,
        peak=peak,
        products=tuple(products),
        quantised=quantised,
        environment=describe_machine(),
    )


def buffer_size(root: Path = Path("/")) -> int:
    """Bytes of a buffer far larger than the caches, within an eighth of the memory that is free."""
    wanted = max(_LEAST_BUFFER_BYTES, _CACHES * (last_level_cache_bytes(root) or 0))
    free = free_memory_bytes()
    most = _MOST_BUFFER_BYTES if free is None else min(_MOST_BUFFER_BYTES, free // 8)
    return max(1 << 20, min(wanted, most))


def sample(run: Callable[[], object], limit_s: float, least: int = 5, most: int = 200) -> Summary:
    """Times of `run` in ms after one unmeasured call, until `limit_s` has passed."""
    run()
    times: list[float] = []
    began = perf_counter()
    while len(times) < least or (perf_counter() - began < limit_s and len(times) < most):
        start = perf_counter()
        run()
        times.append((perf_counter() - start) * 1e3)
    return summarise(times)


class _Bench:
    """The measurements of one provider with one number of threads, `limit_s` each."""

    def __init__(self, providers: Sequence[str], threads: int, limit_s: float) -> None:
        self.providers, self.threads, self.limit_s = providers, threads, limit_s
        self.device = device_of(providers[0])

    def copy_rate(self, size: int) -> Rate:
        """Host memory: numpy copies, one stretch per thread (it lets go of the interpreter's lock)."""
        source = np.ones(size // 8 // self.threads * self.threads, np.float64)
        target = np.zeros_like(source)
        parts = list(zip(np.split(target, self.threads), np.split(source, self.threads), strict=True))
        with ThreadPoolExecutor(self.threads) as pool:
            summary = sample(lambda: list(pool.map(lambda pair: np.copyto(*pair), parts)), self.limit_s)
        return Rate.of(2.0 * source.nbytes, summary)

    def read_rate(self, size: int, dtype: np.dtype[Any]) -> Rate:
        """One row times a matrix that fills the buffer, as decoding reads weights; on the provider."""
        inner = 1024
        outer = max(1, size // inner // dtype.itemsize)
        values = {"x": np.ones((1, inner), dtype), "w": np.ones((inner, outer), dtype)}
        run = self._bound(free_product_graph(1, inner, outer, dtype), values, 1)
        return Rate.of(float(values["w"].nbytes), sample(run, self.limit_s))

    def peak_rate(self, dtype: np.dtype[Any]) -> Peak:
        """The fastest square product; larger ones only while they stay quick."""
        best: Peak | None = None
        for size in _LARGE:
            values = {"x": np.ones((size, size), dtype)}
            run = self._bound(product_graph(size, size, size, dtype, 1), values, 1)
            rate = Rate.of(2.0 * size**3, sample(run, self.limit_s / 2, least=3))
            if best is None or rate.giga_per_s > best.rate.giga_per_s:
                best = Peak(size=size, rate=rate)
            if rate.ms > _LARGE_LIMIT_S * 1e3 / 8:  # the next one takes eight times as long
                break
        assert best is not None
        return best

    def product_rate(self, rows: int, inner: int, outer: int, dtype: np.dtype[Any]) -> Rate:
        """One product inside of a graph: paired differences of two graphs over their number of products."""
        copies = max(2, min(_COPIES, _MOST_WEIGHT_BYTES // (inner * outer * dtype.itemsize)))
        values = {"x": np.ones((rows, inner), dtype)}
        single, several = (
            self._bound(product_graph(rows, inner, outer, dtype, count), values, count)
            for count in (1, copies)
        )
        single()
        several()
        times: list[tuple[float, float]] = []
        began = perf_counter()
        while len(times) < 9 or (perf_counter() - began < self.limit_s and len(times) < 400):
            marks = [perf_counter()]
            for run in (single, several):
                run()
                marks.append(perf_counter())
            times.append((marks[1] - marks[0], marks[2] - marks[1]))
        each = [(long - short) / (copies - 1) * 1e3 for short, long in times]
        summary = summarise(each)
        if summary.median_ms <= 0:  # lost in the noise of the calls: an upper bound is what is known
            summary = summarise([long / copies * 1e3 for _, long in times])
        return Rate.of(2.0 * rows * inner * outer, summary)

    def _bound(self, model: ModelProto, values: dict[str, NDArray[Any]], outputs: int) -> Callable[[], None]:
        """A call that runs the graph with inputs and outputs in place on the device, to its end."""
        import onnxruntime as ort

        session = self._open(model)
        binding = session.io_binding()
        kept: list[ort.OrtValue] = []
        for name, value in values.items():
            kept.append(ort.OrtValue.ortvalue_from_numpy(value, self.device, 0))
            binding.bind_ortvalue_input(name, kept[-1])
        for node in session.get_outputs():
            kind = next(iter(values.values())).dtype
            kept.append(ort.OrtValue.ortvalue_from_shape_and_type(node.shape, kind, self.device, 0))
            binding.bind_ortvalue_output(node.name, kept[-1])

        def run() -> None:
            session.run_with_iobinding(binding)
            binding.synchronize_outputs()

        return run

    def _open(self, model: ModelProto) -> ort.InferenceSession:
        import onnx

        from topovlm.runtime.sessions import open_session

        with tempfile.TemporaryDirectory(prefix="topovlm-products-") as folder:
            path = Path(folder) / "products.onnx"
            onnx.save(model, str(path))
            return open_session(path, self.providers, self.threads)


def table(measured: MachineRates) -> str:
    """Human-readable; every figure is measured."""
    peak = measured.peak
    lines = [
        f"measured with {measured.provider}, {measured.threads} threads, {measured.dtype}",
        f"  copy {measured.copy_bandwidth.giga_per_s:.1f} GB/s, "
        f"read {measured.read_bandwidth.giga_per_s:.1f} GB/s "
        f"(buffer {measured.buffer_bytes >> 20} MiB)",
        f"  peak {peak.rate.giga_per_s:.1f} GFLOP/s (square product of {peak.size})",
        "  tokens   inner   outer  count        us   GFLOP/s  of peak    GB/s",
    ]
    for row in measured.products:
        size = f"{row.tokens:>6}  {row.inner:>6}  {row.outer:>6}  {row.count:>5}"
        rate = f"{row.gflop_per_s:>8.1f}  {100 * row.share_of_peak:>5.0f} %  {row.gb_per_s:>6.1f}"
        lines.append(f"  {size}  {row.us:>8.1f}  {rate}")
    if measured.quantised:
        lines.append(f"  {measured.quantised} quantised products were not measured")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m topovlm.measure.microbench")
    parser.add_argument("folder", type=Path, metavar="DIR", help="exported folder")
    parser.add_argument("--tokens", default="1,64", help="rows of the products, e.g. 1,56,224")
    parser.add_argument("--provider", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    try:
        tokens = [int(count) for count in args.tokens.split(",")]
    except ValueError:
        tokens = []
    try:
        if not tokens or min(tokens) < 1:
            raise InputError(explain("--tokens", args.tokens, "must be whole numbers from 1, with commas"))
        run = RunSettings(threads=args.threads, providers=(args.provider,))
        found = measure_machine(args.folder, tokens=tokens, run=run)
    except (InputError, MissingToolError, VerificationError) as error:
        print(f"error: {error}", file=sys.stderr)
        return {InputError: 2, MissingToolError: 5}.get(type(error), 6)
    print(encode(found).decode() if args.json else table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())

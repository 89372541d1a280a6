"""Micro-benchmarks: what they run is what they say, and rates follow from work and time."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.runtime.toy_export import Toy
from topovlm.errors import InputError, MissingToolError, VerificationError
from topovlm.machine.environment import describe_machine
from topovlm.measure.microbench import (
    MachineRates,
    Rate,
    buffer_size,
    main,
    measure_machine,
    sample,
    table,
)
from topovlm.measure.products import decoder_products, free_product_graph, product_graph
from topovlm.measure.settings import RunSettings
from topovlm.records import decode, encode
from topovlm.stats.robust import summarise

FLOAT = np.dtype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Toy(layers=3).write(tmp_path_factory.mktemp("bench") / "x")


def test_machine_is_measured_at_the_models_shapes(folder: Path) -> None:
    """Every shape of the decoder at every number of rows; rates agree with times; all of it JSON."""
    run = RunSettings(threads=1)
    found = measure_machine(folder, tokens=(1, 7), run=run, time_limit_s=0.2, buffer_bytes=1 << 20)
    assert decode(encode(found), MachineRates, field="machine", name="x") == found
    assert {(row.inner, row.outer, row.tokens, row.count) for row in found.products} == {
        (16, 16, 1, 15), (16, 16, 7, 15), (16, 40, 1, 1), (16, 40, 7, 1)
    }  # fmt: skip
    for row in found.products:
        flop = 2 * row.tokens * row.inner * row.outer
        assert row.gflop_per_s * row.us * 1e3 == pytest.approx(flop)
        assert row.share_of_peak == pytest.approx(row.gflop_per_s / found.peak.rate.giga_per_s)
    for part in (found.copy_bandwidth, found.read_bandwidth):
        assert part.giga_per_s > 0
        assert part.runs >= 5
    assert (found.provider, found.threads, found.dtype) == ("CPUExecutionProvider", 1, "float32")
    assert found.environment.versions["onnxruntime"]
    assert "GFLOP/s" in table(found)


def test_products_of_a_graph(tmp_path: Path) -> None:
    """Weights are told from activations, turned ones are turned back, quantised ones are counted apart."""
    weights = [
        numpy_helper.from_array(np.zeros((3, 5), np.float16), "w"),
        numpy_helper.from_array(np.zeros((7, 5), np.float16), "t"),
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Gemm", ["a", "t"], ["b"], transB=1),
        helper.make_node("MatMul", ["b", "y"], ["c"]),
        helper.make_node("MatMulNBits", ["c", "q"], ["d"], domain="com.microsoft", K=4, N=4, bits=4),
    ]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT16, None) for name in ("x", "y", "q", "d")]
    graph = helper.make_graph(nodes, "g", ports[:3], ports[3:], weights)
    onnx.save(helper.make_model(graph), str(tmp_path / "g.onnx"))
    shapes, quantised, dtype = decoder_products(tmp_path / "g.onnx")
    assert shapes == Counter({(3, 5): 1, (5, 7): 1})
    assert (quantised, dtype) == (1, np.dtype(np.float16))
    onnx.save(helper.make_model(helper.make_graph([], "g", ports[:1], [], [])), str(tmp_path / "e.onnx"))
    with pytest.raises(VerificationError, match="no products"):
        decoder_products(tmp_path / "e.onnx")


def test_graphs_compute_products() -> None:
    """Each copy has weights of its own, and every output is the product that numpy computes."""
    import onnxruntime as ort

    model = product_graph(4, 6, 8, FLOAT, 3)
    onnx.checker.check_model(model, full_check=True)
    x = np.random.default_rng(1).standard_normal((4, 6), np.float32)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    weights = [numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    assert not np.allclose(weights[0], weights[1])
    for found, weight in zip(session.run(None, {"x": x}), weights, strict=True):
        np.testing.assert_allclose(found, x @ weight, rtol=1e-4, atol=1e-5)
    free = free_product_graph(1, 6, 8, FLOAT)
    session = ort.InferenceSession(free.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(None, {"x": x[:1], "w": weights[0]})[0]
    np.testing.assert_allclose(found, x[:1] @ weights[0], rtol=1e-4, atol=1e-5)


def test_buffer_outgrows_the_caches(tmp_path: Path) -> None:
    """Eight times the last cache, at least 64 MiB, never more than an eighth of what is free."""
    cache = tmp_path / "sys/devices/system/cpu/cpu0/cache/index3"
    cache.mkdir(parents=True)
    (cache / "size").write_text("16M\n")
    most = (describe_machine().memory_available_bytes or 1 << 40) // 8
    assert buffer_size(tmp_path) == pytest.approx(min(128 << 20, most), rel=0.1)
    assert buffer_size(tmp_path / "nothing") == pytest.approx(min(64 << 20, most), rel=0.1)


def test_rates_and_samples() -> None:
    """Work over the median time; the first call is not counted, the least number is."""
    assert Rate.of(6e6, summarise([2.0, 3.0, 4.0])).giga_per_s == pytest.approx(2)
    calls: list[int] = []
    assert sample(lambda: calls.append(1), 0.0, least=3).count == 3
    assert len(calls) == 4


def test_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Bad input gives one sentence and exit code 2."""
    assert main([str(tmp_path)]) == 2
    assert "no exported model" in capsys.readouterr().err
    assert main([str(folder), "--tokens", "0"]) == 2
    assert "--tokens" in capsys.readouterr().err


def test_absent_provider(folder: Path) -> None:
    """A provider that this build lacks is named, never replaced by another."""
    import onnxruntime as ort

    if "TensorrtExecutionProvider" in ort.get_available_providers():
        pytest.skip("this build has it")
    with pytest.raises(MissingToolError, match="Tensorrt"):
        measure_machine(folder, run=RunSettings(threads=1, providers=("tensorrt",)))
    with pytest.raises(InputError):
        measure_machine(folder, run=RunSettings(threads=1, providers=("nonsense",)))

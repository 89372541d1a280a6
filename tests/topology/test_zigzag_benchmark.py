from __future__ import annotations

import json
import sys

import pytest
from benchmarks import zigzag
from benchmarks.zigzag_cases import KINDS
from benchmarks.zigzag_peers import Peer, Problem, compiled_peer, dionysus_peer

from tests.topology.strategies import as_layers, trajectory
from tests.topology.zigzag_oracles import dionysus_bars
from topovlm.topology.zigzag import layer_graphs


@pytest.mark.parametrize("kind", KINDS)
def test_a_case_is_measured(kind):
    """A small case of every kind gives times, bars and a row of the table."""
    row = zigzag.measure(zigzag.Case(kind, 40, 3, 4, width=8), 1, [], 1.0)
    assert row.bars > 0
    assert min(row.neighbours_s, row.one_thread_s, row.all_threads_s, row.whole_path_s) > 0
    assert zigzag.line(row).startswith(f"| {kind} | 40 | 3 | 4 |")


def test_a_peer_that_differs_fails_the_run(monkeypatch, tmp_path):
    """The command ends with an error where a peer's bars are not ours, after writing what it measured."""
    wrong = Peer("wrong", lambda problem, skeleton: (1.0, []))
    monkeypatch.setattr(zigzag, "find_peers", lambda options: ([wrong], []))
    monkeypatch.setattr(zigzag, "in_own_process", lambda case, options: zigzag.measure(case, 1, [wrong], 1.0))
    target = tmp_path / "rows.json"
    size = ["--samples", "30", "--layers", "2", "--k", "3", "--width", "4", "--kinds", "fresh"]
    monkeypatch.setattr(sys, "argv", ["zigzag", *size, "--json", str(target)])
    with pytest.raises(SystemExit, match="differs"):
        zigzag.main()
    assert json.loads(target.read_text())["rows"][0]["agrees"] == {"wrong (skeleton 2)": False}


def test_absent_peers_say_why():
    """A peer without a checkout names the option that gives it one."""
    assert compiled_peer("FastZigZag", None, []) == "FastZigZag: no checkout given (--fastzigzag DIR)"


def test_dionysus_peer_agrees_with_its_streaming_algorithm():
    """dionysus' fast zigzag, which the benchmark times, gives the bars of its streaming zigzag."""
    peer = dionysus_peer()
    if isinstance(peer, str):
        pytest.skip(peer)
    layers = as_layers(layer_graphs(trajectory(25, 4, 3, seed=6), k=3))
    assert peer.solve(Problem.of(layers, (2,)), 2)[1] == dionysus_bars(layers)

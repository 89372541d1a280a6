"""`--bench`: public benchmarks asked of exported folders, alone and in a deployment; answers are kept."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from benchmarks.tasks.small import build
from PIL import Image

from tests.pipeline import deploying
from topovlm import cli
from topovlm.config import resolve
from topovlm.errors import InputError, explain
from topovlm.evaluation.shards import answer_in_shards
from topovlm.pipeline.benches import askable, open_benches
from topovlm.report.html import render_html
from topovlm.report.markdown import render_markdown
from topovlm.report.store import read_report
from topovlm.runtime.engine import Engine
from topovlm.samples import Sample
from topovlm.workers.pool import HERE

ASKED = ["--bench", "ai2d,chartqa-strict,mmbench", "--limit", "8"]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The benchmarks in the forms of their repositories."""
    folder = tmp_path_factory.mktemp("small")
    build(folder, 16)
    return folder


@pytest.fixture(scope="module")
def run(
    model: Path, finished: tuple[Path, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory, small: Path
) -> Path:
    """A tiny deployment that asked three benchmarks."""
    out = deploying.copy_without(finished[0], tmp_path_factory.mktemp("benched") / "out")
    code, _ = deploying.deploy(model, out, *ASKED, "--bench-data", str(small))
    assert code == 0
    return out


def evaluate(*words: str) -> tuple[int, dict[str, Any]]:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = cli.main(["eval", *words, "--threads", "1", "--json"])
    return code, json.loads(printed.getvalue())


def test_a_deployment_reports_benchmarks_beside_the_users_questions(run: Path) -> None:
    """Dense and slim answered the same ones; protocol, chance, parse rate and intervals are in every form."""
    report = read_report(run)
    assert [one.name for one in report.benchmarks] == ["ai2d", "chartqa-strict", "mmbench"]
    assert [one.protocol for one in report.benchmarks] == ["lmms-eval-0.7.3", "strict", "lmms-eval-0.7.3"]
    ai2d, _, mmbench = report.benchmarks
    assert (ai2d.asked, ai2d.available, ai2d.accuracy.overall.n) == (8, 16, 8)
    assert (mmbench.asked, mmbench.accuracy.overall.n) == (8, 2)  # four passes are a question
    assert mmbench.accuracy.overall.chance == pytest.approx(0.25**4)
    assert ai2d.accuracy.overall.slim is not None
    assert ai2d.accuracy.overall.difference is not None
    assert any("after 128 tokens here, after 1,024 there" in line for line in mmbench.differences)
    assert report.accuracy is not None
    assert report.accuracy.task == "reference"
    for text in (render_markdown(report), render_html(report)):
        assert "Public benchmarks" in text
        assert "lmms-eval-0.7.3" in text
        assert "answers read: dense / slim" in text


def test_without_benchmarks_the_report_has_no_such_part(run: Path) -> None:
    """And a report that was written before there were any is read."""
    report = read_report(run)
    without = msgspec.structs.replace(report, benchmarks=())
    assert "Public benchmarks" not in render_markdown(without)


def test_the_same_command_again_asks_nothing(model: Path, run: Path, small: Path) -> None:
    """Another limit, and only the benchmarks and the report are made again."""
    deploying.deploy(model, run, *ASKED, "--bench-data", str(small))
    assert deploying.stages_run(run) == []
    fewer = [*ASKED[:-1], "4"]
    deploying.deploy(model, run, *fewer, "--bench-data", str(small))
    assert deploying.stages_run(run) == ["bench-dense", "bench-slim", "report"]
    deploying.deploy(model, run)
    assert read_report(run).benchmarks == ()
    deploying.deploy(model, run, *ASKED, "--bench-data", str(small))


def test_eval_compares_two_folders_on_benchmarks(run: Path, small: Path, tmp_path: Path) -> None:
    """The figures of the deployment again; both protocols are scored on the same kept answers."""
    words = (str(run / "onnx"), "--baseline", str(run / "baseline"), "--bench-data", str(small))
    kept = tmp_path / "kept"
    code, found = evaluate(*words, *ASKED, "--answers", str(kept))
    assert code == 0
    report = read_report(run)
    for one, other in zip(found["benchmarks"], report.benchmarks, strict=True):
        assert one["accuracy"]["overall"]["dense"]["value"] == other.accuracy.overall.dense.value
        assert one["accuracy"]["sample_sha256"] == other.accuracy.sample_sha256
    before = {file.name for file in kept.iterdir()}
    code, _ = evaluate(*words, "--bench", "ai2d-strict", "--limit", "8", "--answers", str(kept))
    assert code == 0
    assert {file.name for file in kept.iterdir()} == before


def test_a_killed_evaluation_asks_only_what_is_left(
    run: Path, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers are on disk as they come, and are those of a run that nobody disturbed."""
    config = resolve({"bench": "ai2d,mmbench", "bench_data": str(small)})
    bench = open_benches(config)[0]
    whole = answer_in_shards(HERE, run / "onnx", bench.task, bench.samples, threads=1, new_tokens=16, size=64)
    asked: list[int] = []
    answers = Engine.generate_batch

    def dies(self: Engine, items: Sequence[tuple[list[Image.Image], str]], *words: Any) -> Any:
        asked.append(len(items))
        if len(asked) == 2:
            raise KeyboardInterrupt
        return answers(self, items, *words)

    monkeypatch.setattr("topovlm.evaluation.shards._BATCH", 6)
    monkeypatch.setattr(Engine, "generate_batch", dies)
    seen: list[tuple[int, int]] = []

    def ask() -> Any:
        return answer_in_shards(
            HERE, run / "onnx", bench.task, bench.samples, threads=1, new_tokens=16, size=64,
            kept=tmp_path, progress=lambda done, total: seen.append((done, total)),
        )  # fmt: skip

    with pytest.raises(KeyboardInterrupt):
        ask()
    assert len(list(tmp_path.iterdir())) == 6
    resumed = ask()
    assert resumed == whole
    assert asked == [6, 6, 6, 4]
    assert seen == [(6, 16), (12, 16), (16, 16)]
    assert ask() == whole
    assert asked == [6, 6, 6, 4]
    torn = next(tmp_path.iterdir())
    torn.write_bytes(torn.read_bytes()[:-1])
    assert ask() == whole
    assert asked[-1] == 1


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        (["--bench", "ai3d"], "Did you mean ai2d"),
        (["--bench", ","], "names no benchmark"),
        (["--bench", "nextqa"], "--bench nextqa: videos = 1: this model takes no videos"),
        (["--limit", "3"], "is about the benchmarks of --bench"),
        (["--bench", "ai2d", "--task", "reference"], "names other questions than --bench"),
        (["--bench", "ai2d", "--limit", "0"], "must be at least 1"),
    ],
)
def test_bad_words_are_refused(
    run: Path, small: Path, capsys: pytest.CaptureFixture[str], words: list[str], rule: str
) -> None:
    """Exit code 2 before a model runs."""
    where = ["--bench-data", str(small)] if "--bench" in words else []
    code = cli.main(["eval", str(run / "onnx"), *words, *where])
    assert code == 2
    assert rule in capsys.readouterr().err


def test_missing_benchmarks_leave_no_run_behind(model: Path, tmp_path: Path) -> None:
    """A deployment looks for them before its directory exists."""
    (tmp_path / "empty").mkdir()
    out = tmp_path / "out"
    where = str(tmp_path / "empty")
    code, answer = deploying.deploy(model, out, "--bench", "mmmu", "--bench-data", where)
    assert code == 2
    assert "hf download --repo-type dataset lmms-lab-encoder/MMMU" in json.dumps(answer)
    assert not out.exists()


def test_questions_that_do_not_fit_the_model_are_left_out_by_name(small: Path) -> None:
    """A long prompt among thousands ends no run; of a circular benchmark its other passes go, too."""
    benches = open_benches(resolve({"bench": "ai2d,mmbench", "bench_data": str(small)}))
    long = {benches[0].samples[3].id, benches[1].samples[0].id}

    def check(sample: Sample, tokens: int) -> None:
        if sample.id in long:
            raise InputError(explain("prompt", sample.prompt, "is too long"))

    ai2d, mmbench = askable(benches, check)
    assert (len(ai2d.samples), len(mmbench.samples)) == (15, 12)
    assert ai2d.source.endswith(f"; 1 cannot be asked, the first: {benches[0].samples[3].id}: is too long")

    def never(sample: Sample, tokens: int) -> None:
        raise InputError(explain("prompt", sample.prompt, "is too long"))

    with pytest.raises(InputError, match="too long"):
        askable(benches, never)


def test_open_benches_names_what_is_about_none() -> None:
    """A folder or a limit without benchmarks would say nothing."""
    assert open_benches(resolve({})) == ()
    with pytest.raises(InputError, match="--bench-data"):
        open_benches(resolve({"bench_data": "/nowhere"}))

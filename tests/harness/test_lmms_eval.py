"""The plug-in inside lmms-eval itself: its own task files on local data, against `topovlm eval`.

Runs where lmms-eval is installed, which CI has not: docs/benchmarks.md says how.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from importlib import metadata, util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from benchmarks.tasks.small import build
from pyarrow import parquet

from tests import tiny
from topovlm import cli
from topovlm.errors import InputError
from topovlm.reference import model_dir
from topovlm.tasks import open_task

VERSION = "0.7.3"
TASKS = ("ai2d", "chartqa")


def _found() -> str:
    try:
        return metadata.version("lmms-eval")
    except metadata.PackageNotFoundError:
        return "none"


def test_the_entry_point_names_what_is_there() -> None:
    """As pyproject.toml states it: a module of the package, which only lmms-eval imports."""
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    found = re.search(r'"lmms_eval\.models"\]\ntopovlm = "([\w.]+):(\w+)"', text)
    assert found is not None
    spec = util.find_spec(found[1])
    assert spec is not None
    assert spec.origin is not None
    assert f"def {found[2]}()" in Path(spec.origin).read_text(encoding="utf-8")


needs_lmms_eval = pytest.mark.skipif(
    _found() != VERSION, reason=f"lmms-eval {VERSION} is needed, there is {_found()}"
)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reference") / "onnx"
    with contextlib.redirect_stdout(io.StringIO()):
        assert cli.main(["export", "--model", str(model_dir()), "-o", str(folder), "--json"]) == 0
    return folder


@pytest.fixture(scope="module")
def data(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """AI2D's and ChartQA's forms; what the model says to every other chart is made the right answer."""
    from topovlm.runtime.engine import Engine

    folder = tmp_path_factory.mktemp("small")
    build(folder, 16)
    asked = open_task("chartqa", folder).samples("all", 99, 0)
    engine = Engine(exported, variant="plain", threads=1)
    said = engine.generate_batch([(one.load_images(), one.prompt) for one in asked], 16, 16)
    file = folder / "chartqa" / "data" / "test-00000-of-00001.parquet"
    table = parquet.read_table(file)
    answers = [text.text if n % 2 else "nothing" for n, text in enumerate(said)]
    place = table.schema.get_field_index("answer")
    parquet.write_table(table.set_column(place, table.schema.field(place), [answers]), file)
    return folder


def _own_tasks(folder: Path, data: Path) -> Path:
    """lmms-eval's task folders, each with its dataset's name replaced by files."""
    import lmms_eval

    for task in TASKS:
        home = folder / task
        shutil.copytree(Path(str(lmms_eval.__file__)).parent / "tasks" / task, home)
        for file in home.glob("*.yaml"):
            if file.stem != task:
                file.unlink()
        text = (home / f"{task}.yaml").read_text(encoding="utf-8")
        files = f"dataset_kwargs:\n  data_files:\n    test: {data / task / 'data'}/test-*.parquet"
        text = re.sub(r"dataset_path: .*", "dataset_path: parquet", text)
        text = text.replace("dataset_kwargs:\n  token: True", files)
        text = re.sub(r'task: "?\w+"?', f"task: small_{task}", text)
        (home / f"{task}.yaml").write_text(text, encoding="utf-8")
    return folder


def _lmms_eval(model: Path, data: Path, room: Path) -> dict[str, list[dict[str, Any]]]:
    """Task -> its samples, from the command line as a user gives it."""
    words = ["--model", "topovlm", "--model_args", f"pretrained={model},threads=1", "--batch_size", "1"]
    words += ["--tasks", ",".join(f"small_{task}" for task in TASKS), "--log_samples"]
    words += ["--include_path", str(_own_tasks(room / "tasks", data)), "--output_path", str(room / "out")]
    settings = {"HF_HOME": str(room / "hf"), "HF_HUB_OFFLINE": "1", "OPENAI_API_KEY": "none"}
    done = subprocess.run(
        [sys.executable, "-m", "lmms_eval", *words],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    found = {}
    for task in TASKS:
        files = list((room / "out").rglob(f"*_samples_small_{task}.jsonl"))
        assert len(files) == 1, done.stdout + done.stderr
        rows = map(json.loads, files[0].read_text(encoding="utf-8").splitlines())
        found[task] = sorted(rows, key=lambda row: row["doc_id"])
    return found


@needs_lmms_eval
@pytest.mark.parametrize("kind", ["exported", "checkpoint"])
def test_scores_are_those_of_eval(kind: str, exported: Path, data: Path, tmp_path: Path) -> None:
    """Question by question: the same words asked, the same answer, the same score; half the charts right."""
    model = exported if kind == "exported" else model_dir()
    theirs = _lmms_eval(model, data, tmp_path)
    printed = io.StringIO()
    words = ["eval", str(exported), "--bench", ",".join(TASKS), "--bench-data", str(data)]
    with contextlib.redirect_stdout(printed):
        assert cli.main([*words, "--answers", str(tmp_path / "kept"), "--threads", "1", "--json"]) == 0
    for row in json.loads(printed.getvalue())["benchmarks"]:
        ours, found = row["accuracy"]["questions"], theirs[row["name"]]
        metric = {"ai2d": "exact_match", "chartqa": "relaxed_overall"}[row["name"]]
        asked = open_task(row["name"], data).samples("all", 99, 0)
        assert [one["input"] for one in found] == [sample.prompt for sample in asked]
        assert [one["filtered_resps"] for one in found] == [one["dense"]["text"] for one in ours]
        assert [one[metric] for one in found] == [one["dense"]["score"] for one in ours]
    assert 0.5 <= sum(one["relaxed_overall"] for one in theirs["chartqa"]) / 16 < 1


@needs_lmms_eval
def test_what_cannot_be_asked_is_counted_and_what_is_no_answer_refused(exported: Path) -> None:
    """Stops of a task cut answers, lmms-eval's own does not; videos and sampling end the run by name."""
    from topovlm.harness.lmms_eval_model import Topovlm

    model = Topovlm(str(exported), threads=1, max_new_tokens=4)
    pictures = [tiny.picture(n, 48) for n in range(3)]
    model.task_dict = {"t": {"test": [{"image": picture} for picture in pictures]}}

    def request(doc: int, words: str = "How many squares are there?", **settings: Any) -> Any:
        visuals = settings.pop("visuals", lambda row: [row["image"]])
        return SimpleNamespace(args=(words, {"max_new_tokens": 16, **settings}, visuals, doc, "t", "test"))

    plain = model.generate_until([request(0), request(1), request(2)])
    assert all(plain)
    assert model.generate_until([request(2), request(0)]) == [plain[2], plain[0]]
    assert model.generate_until([request(0, until=["\n\n", plain[0][-1]])]) == [
        plain[0].partition(plain[0][-1])[0]
    ]
    assert model.generate_until([request(0, "<image> " * 3), request(1)]) == ["", plain[1]]
    with pytest.raises(InputError, match="does not ask about pictures"):
        model.generate_until([request(0, visuals=lambda row: ["clip.mp4"])])
    with pytest.raises(InputError, match="answers are greedy"):
        model.generate_until([request(0, temperature=0.7)])
    with pytest.raises(InputError, match="loglikelihood"):
        model.loglikelihood([])

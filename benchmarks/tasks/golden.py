"""Golden vectors: what lmms-eval's own code says to rows and answers of ours; runs where it is installed.

    pip install --no-deps lmms-eval==0.7.3      # and what its tasks import: see CONTRIBUTING.md
    python -m benchmarks.tasks.golden tests/tasks/golden --mmmu DIR --blink DIR --most 250

writes TASK.json: rows with their prompts; for each answer its score, whether the score was drawn at random,
and whether a GPT model would have been asked. Of MathVista also the score if that model repeated what the
answer states, and the precision were a whole number, as in the authors' own script.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.tasks import real_answers
from benchmarks.tasks.golden_rows import ROWS, Row, answers_of, said_of

VERSION = "0.7.3"
_LETTER = "Answer with the option's letter from the given choices directly."
# What the task's yaml hands to the functions, group `default`.
_KWARGS: dict[str, dict[str, Any]] = {
    "ai2d": {"prompt_format": "mcq", "pre_prompt": "", "post_prompt": f"\n{_LETTER}"},
    "chartqa": {"pre_prompt": "", "post_prompt": "\nAnswer the question with a single word."},
    "mmmu": {
        "prompt_type": "format",
        "multiple_choice_prompt": _LETTER,
        "open_ended_prompt": "Answer the question using a single word or phrase.",
    },
    "mathvista": {"shot_type": "format-prompt", "shot": 0, "use_caption": False, "use_ocr": False},
    "blink": {
        "pre_prompt": "Note: You only need to respond with {} without providing any additional "
        "information.\n",
        "post_prompt": "",
    },
    "mmbench": {"pre_prompt": "", "post_prompt": f"\n{_LETTER}"},
    "egoschema": {"pre_prompt": "", "post_prompt": f"\n{_LETTER}"},
    "mvbench": {"sub_task": "action_antonym", "post_prompt": "Only give the best option.\n"},
    "nextqa": {},
    "videomme": {"pre_prompt": "", "post_prompt": f"\n{_LETTER}"},
}
_YAML = {
    "ai2d": "ai2d/ai2d.yaml", "chartqa": "chartqa/chartqa.yaml", "mmmu": "mmmu/mmmu_val.yaml",
    "mathvista": "mathvista/mathvista_testmini_format.yaml", "blink": "blink/_default_template_yaml",
    "mmbench": "mmbench/_default_template_mmbench_en_yaml", "egoschema": "egoschema/egoschema_subset.yaml",
    "mvbench": "mvbench/mvbench_action_antonym.yaml", "nextqa": "nextqa/nextqa_mc_test.yaml",
    "videomme": "videomme/videomme.yaml",
}  # fmt: skip


class _Drawn(Exception):
    """Somebody asked for a random letter."""


def main(argv: list[str]) -> int:
    """Exit code: 0, or 5 where lmms-eval of that version is not there."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tasks.golden")
    parser.add_argument("folder", type=Path)
    for name in real_answers.READERS:
        parser.add_argument(
            f"--{name}", type=Path, metavar="DIR", help="a checkout of the authors' repository"
        )
    parser.add_argument("--most", type=int, metavar="N", help="so many of their answers (default: all)")
    args = parser.parse_args(argv)
    try:
        found = metadata.version("lmms-eval")
    except metadata.PackageNotFoundError:
        found = "none"
    if found != VERSION:
        print(f"lmms-eval {VERSION} is needed, there is {found}", file=sys.stderr)
        return 5
    os.environ.setdefault("OPENAI_API_KEY", "none")
    os.environ.setdefault("HF_HOME", str(args.folder))
    args.folder.mkdir(parents=True, exist_ok=True)
    for task, rows in ROWS.items():
        _check_kwargs(task)
        made = [_row(task, row, answers_of(task, row)) for row in rows]
        if task == "mathvista":
            for vector in made:
                _add_judged(vector)
        _write(args.folder / f"{task}.json", task, made)
    for task, reader in real_answers.READERS.items():
        repository = getattr(args, task)
        if repository is not None:
            asked = real_answers.some(reader(repository), args.most)
            _write(args.folder / f"{task}-real.json", task, [_row(task, row, texts) for row, texts in asked])
    return 0


def _write(file: Path, task: str, rows: list[dict[str, Any]]) -> None:
    text = json.dumps({"lmms_eval": VERSION, "task": task, "rows": rows})
    file.write_text(text.replace('{"row"', '\n{"row"') + "\n", encoding="utf-8")
    print(file.name, len(rows), "rows", sum(len(row["answers"]) for row in rows), "answers")


def _check_kwargs(task: str) -> None:
    """The arguments above are the installed yaml's."""
    import yaml

    root = Path(str(importlib.import_module("lmms_eval").__path__[0])) / "tasks"
    lines = (root / _YAML[task]).read_text().splitlines()
    kept = "\n".join(line for line in lines if "!function" not in line and not line.startswith("include"))
    found = (yaml.safe_load(kept) or {}).get("lmms_eval_specific_kwargs", {}).get("default", {})
    if found != _KWARGS[task]:
        raise SystemExit(f"{task}: the yaml says {found}")


def _row(task: str, row: Row, texts: list[str]) -> dict[str, Any]:
    return {"row": row, "prompt": _PROMPT[task](row), "answers": [_answer(task, row, text) for text in texts]}


def _answer(task: str, row: Row, text: str) -> list[Any]:
    """[text, score, remark]; remark: "" or "random" or "judge"."""
    asked: list[str] = []
    with _no_dice(), _no_judge(asked):
        try:
            score = float(_SCORE[task](row, text))
        except _Drawn:
            return [text, None, "random"]
    return [text, score, "judge" if asked else ""]


def _add_judged(vector: dict[str, Any]) -> None:
    """To each answer: its score with a judge that repeats what it states; None where it states nothing."""
    row = vector["row"]
    whole = {**row, "precision": None if row["precision"] is None else int(row["precision"])}
    said = said_of("mathvista", row)
    for answer in vector["answers"]:
        stated = said[answer[0]]
        if stated is None:
            answer.append(None)
            continue
        with _no_judge([], reply=stated):
            answer.append(float(_SCORE["mathvista"](whole, answer[0])))


@contextmanager
def _no_dice() -> Iterator[None]:
    import random

    def drawn(*_: Any) -> Any:
        raise _Drawn

    kept = {name: getattr(random, name) for name in ("choice", "randint")}
    for name in kept:
        setattr(random, name, drawn)
    try:
        yield
    finally:
        for name, own in kept.items():
            setattr(random, name, own)


@contextmanager
def _no_judge(asked: list[str], reply: str = "") -> Iterator[None]:
    """MathVista's GPT model says nothing, as without a key, or `reply`; mere resemblance is told, too."""
    evaluator = importlib.import_module("lmms_eval.tasks.mathvista.mathvista_evals").MathVistaEvaluator

    def nothing(self: Any, prompt: str, **_: Any) -> str:
        asked.append(prompt)
        return reply

    def nearest(self: Any, prediction: str, choices: list[str]) -> str:
        if prediction not in choices:
            asked.append(prediction)
        return str(kept[1](self, prediction, choices))

    kept = evaluator.get_chat_response, evaluator.get_most_similar
    evaluator.get_chat_response, evaluator.get_most_similar = nothing, nearest
    try:
        yield
    finally:
        evaluator.get_chat_response, evaluator.get_most_similar = kept


def _utils(task: str) -> Any:
    name = {"mmbench": "mmbench.en_utils"}.get(task, f"{task}.utils")
    return importlib.import_module(f"lmms_eval.tasks.{name}")


def _text(task: str, function: str) -> Callable[[Row], str]:
    return lambda row: str(getattr(_utils(task), function)(row, _KWARGS[task]))


_PROMPT: dict[str, Callable[[Row], str]] = {
    "ai2d": _text("ai2d", "ai2d_doc_to_text"),
    "mathvista": _text("mathvista", "mathvista_doc_to_text"),
    "chartqa": _text("chartqa", "chartqa_doc_to_text"),
    "mmmu": _text("mmmu", "mmmu_doc_to_text"),
    "blink": _text("blink", "blink_doc_to_text"),
    "mmbench": _text("mmbench", "mmbench_doc_to_text"),
    "egoschema": _text("egoschema", "egoschema_doc_to_text"),
    "mvbench": _text("mvbench", "mvbench_doc_to_text"),
    "nextqa": _text("nextqa", "nextqa_doc_to_text_mc"),
    "videomme": _text("videomme", "videomme_doc_to_text"),
}


def _ai2d(row: Row, text: str) -> float:
    utils = _utils("ai2d")
    metrics = importlib.import_module("lmms_eval.api.metrics")
    kept = utils.MultiChoiceRegexFilter(regex_pattern="([A-Z])\\.").apply([[text]], [row])
    target = utils.ai2d_doc_to_target(row, "mcq")
    found = metrics.exact_match_hf_evaluate(kept, [target], ignore_case=True, ignore_punctuation=True)
    return float(found["exact_match"])


def _mmmu(row: Row, text: str) -> float:
    utils = _utils("mmmu")
    return float(utils.mmmu_aggregate_results([utils.mmmu_process_results(row, [text])["mmmu_acc"]]))


def _mmbench(row: Row, text: str) -> float:
    """Of a row by itself: as if it were the only pass."""
    utils = _utils("mmbench")
    data = utils.mmbench_process_results({**row, "index": row["index"] % 1_000_000}, [text])["gpt_eval_score"]
    return float(utils.mmbench_evaluator.eval_result([data], eval_method="static")[0])


def _egoschema(row: Row, text: str) -> float:
    utils = _utils("egoschema")
    result = utils.egoschema_process_results_generation(row, [text])["score"]
    return float(utils.egoschema_aggregate_score([result], None))


_SCORE: dict[str, Callable[[Row, str], float]] = {
    "ai2d": _ai2d,
    "mathvista": lambda row, text: _utils("mathvista").mathvista_process_results(row, [text])["submission"][
        "true_false"
    ],
    "chartqa": lambda row, text: _utils("chartqa").chartqa_process_results(row, [text])["relaxed_overall"],
    "mmmu": _mmmu,
    "blink": lambda row, text: _utils("blink").blink_process_results(row, [text])["blink_acc"]["is_correct"],
    "mmbench": _mmbench,
    "egoschema": _egoschema,
    "mvbench": lambda row, text: _utils("mvbench").mvbench_process_results(row, [text])["mvbench_accuracy"][
        "score"
    ],
    "nextqa": lambda row, text: _utils("nextqa").nextqa_mc_process_results(row, [text])["exact_match"],
    "videomme": lambda row, text: _utils("videomme").videomme_process_results(row, [text])[
        "videomme_perception_score"
    ]["score"],
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

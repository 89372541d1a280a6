"""The ten benchmarks. Ids, columns and counts as of November 2026; docs/benchmarks.md has the sources."""

from __future__ import annotations

from topovlm.tasks.public import mvbench
from topovlm.tasks.public.record import Benchmark, Videos

_GUESS = "an answer that cannot be read is wrong; lmms-eval draws a letter at random, worth 1/n on average"
_CUT = "answers end after {cut} tokens here, after {new_tokens} there"

_BLINK_CONFIGS = (
    *("Art_Style", "Counting", "Forensic_Detection", "Functional_Correspondence", "IQ_Test", "Jigsaw"),
    *("Multi-view_Reasoning", "Object_Localization", "Relative_Depth", "Relative_Reflectance"),
    *("Semantic_Correspondence", "Spatial_Relation", "Visual_Correspondence", "Visual_Similarity"),
)
_AI2D = Benchmark(
    name="ai2d",
    title="AI2D",
    ids=("lmms-lab-encoder/ai2d", "lmms-lab/ai2d"),
    configs=("default",),
    split="test",
    count=3088,
    question="question",
    options=("options",),
    options_form="list",
    answer="answer",
    answer_form="index",
    pictures=("image",),
    category="",
    cluster="pictures",
    prompt="lines",
    rule="whole letter",
    new_tokens=16,
    licence="diagrams CC BY-SA, Allen Institute for AI; the dataset's card states none",
    matches="ai2d",
    chance=0.25,
)
_MATHVISTA = Benchmark(
    name="mathvista",
    title="MathVista",
    ids=("AI4Math/MathVista",),
    configs=("default",),
    split="testmini",
    count=1000,
    question="question",
    options=("choices",),
    options_form="list",
    answer="answer",
    answer_form="option or text",
    ident="pid",
    pictures=("decoded_image",),
    category="metadata.task",
    cluster="pictures",
    prompt="format",
    rule="mathvista",
    new_tokens=16_384,
    licence="CC BY-SA 4.0",
    matches="mathvista_testmini_format",
    chance=0.179,
    more=("unit", "precision", "question_type", "answer_type"),
    differences=(
        "answers are extracted by a stated rule; lmms-eval asks a GPT model for whatever is neither one of "
        "the choices nor a number, and without a key takes the choice nearest in spelling to nothing",
        "questions with a decimal answer can be right; in lmms-eval 0.7.3 the precision is a float, rounding "
        "fails, and every one is wrong",
    ),
)
_CHARTQA = Benchmark(
    name="chartqa",
    title="ChartQA",
    ids=("lmms-lab-encoder/ChartQA", "lmms-lab/ChartQA"),
    configs=("default",),
    split="test",
    count=2500,
    question="question",
    options=(),
    options_form="none",
    answer="answer",
    answer_form="text",
    pictures=("image",),
    category="type",
    cluster="pictures",
    prompt="word",
    rule="relaxed",
    new_tokens=16,
    licence="GPL-3.0, as the authors' repository",
    matches="chartqa",
    chance=0.0,
)
_MMMU = Benchmark(
    name="mmmu",
    title="MMMU",
    ids=("lmms-lab-encoder/MMMU", "lmms-lab/MMMU", "MMMU/MMMU"),
    configs=("*",),
    split="validation",
    count=900,
    question="question",
    options=("options",),
    options_form="list as text",
    answer="answer",
    answer_form="letter or text",
    ident="id",
    pictures=tuple(f"image_{number}" for number in range(1, 8)),
    named_pictures=True,
    category="subject",
    cluster="row",
    prompt="lines or phrase",
    rule="mmmu",
    new_tokens=128,
    licence="Apache-2.0",
    matches="mmmu_val",
    chance=0.247,
    more=("question_type",),
    differences=(_GUESS,),
)
_BLINK = Benchmark(
    name="blink",
    title="BLINK",
    ids=("BLINK-Benchmark/BLINK",),
    configs=_BLINK_CONFIGS,
    split="val",
    count=1901,
    question="prompt",
    options=("choices",),
    options_form="list",
    answer="answer",
    answer_form="letter in brackets",
    ident="idx",
    pictures=("image_1", "image_2", "image_3", "image_4"),
    category="sub_task",
    cluster="row",
    prompt="note",
    rule="blink",
    new_tokens=1024,
    licence="Apache-2.0",
    matches="blink",
    chance=0.381,
    may_lack=("image_2", "image_3", "image_4"),
)
_MMBENCH = Benchmark(
    name="mmbench",
    title="MMBench",
    ids=("lmms-lab-encoder/MMBench", "lmms-lab/MMBench"),
    configs=("en",),
    split="dev",
    count=4329,
    question="question",
    options=("A", "B", "C", "D", "E"),
    options_form="columns",
    answer="answer",
    answer_form="letter",
    ident="index",
    pictures=("image",),
    category="L2-category",
    cluster="index",
    prompt="several options",
    rule="mmbench",
    new_tokens=1024,
    licence="Apache-2.0, as the authors' repository",
    matches="mmbench_en_dev_static",
    chance=0.0,
    more=("hint", "A", "B", "C", "D"),
    may_lack=("E",),
    circular=True,
)
_EGOSCHEMA = Benchmark(
    name="egoschema",
    title="EgoSchema",
    ids=("lmms-eval/egoschema", "lmms-lab/egoschema"),
    configs=("Subset",),
    split="test",
    count=500,
    question="question",
    options=("option",),
    options_form="list",
    answer="answer",
    answer_form="index",
    ident="question_idx",
    videos=Videos("video_idx", ("videos",)),
    category="",
    cluster="video_idx",
    prompt="lettered lines",
    rule="egoschema",
    new_tokens=16,
    licence="MIT on the card; the clips are under Ego4D's licence",
    matches="egoschema_subset",
    chance=0.2,
    differences=(_GUESS,),
)
_MVBENCH = Benchmark(
    name="mvbench",
    title="MVBench",
    ids=("OpenGVLab/MVBench",),
    configs=mvbench.PARTS,
    split="train",
    count=4000,
    question="question",
    options=("candidates",),
    options_form="list",
    answer="answer",
    answer_form="option",
    videos=mvbench.VIDEOS,
    category="config",
    cluster="video",
    prompt="bracketed",
    rule="mvbench",
    new_tokens=16,
    licence="MIT (annotations); the eleven sources of the clips have licences of their own",
    matches="mvbench",
    chance=0.273,
    revision="video",
    more=("start", "end"),
    may_lack=("start", "end"),
    differences=("an empty answer is wrong; lmms-eval leaves it out of the count",),
)
_NEXTQA = Benchmark(
    name="nextqa",
    title="NExT-QA, multiple choice",
    ids=("lmms-eval/NExTQA", "lmms-lab/NExTQA"),
    configs=("MC",),
    split="test",
    count=8564,
    question="question",
    options=("a0", "a1", "a2", "a3", "a4"),
    options_form="columns",
    answer="answer",
    answer_form="index",
    videos=Videos("video", ("NExTVideo", "videos")),
    category="type",
    cluster="video",
    prompt="bare lines",
    rule="nextqa",
    new_tokens=1024,
    licence="MIT, as the authors' repository",
    matches="nextqa_mc_test",
    chance=0.2,
    differences=(_GUESS,),
)
_VIDEOMME = Benchmark(
    name="videomme",
    title="Video-MME, without subtitles",
    ids=("lmms-eval/Video-MME", "lmms-lab/Video-MME"),
    configs=("videomme",),
    split="test",
    count=2700,
    question="question",
    options=("options",),
    options_form="list",
    answer="answer",
    answer_form="letter",
    ident="question_id",
    videos=Videos("videoID", ("data", "videos")),
    category="duration",
    cluster="videoID",
    prompt="select the best",
    rule="videomme",
    new_tokens=16,
    licence="research only, no redistribution",
    matches="videomme",
    chance=0.25,
)

PICTURE_BENCHMARKS = (_AI2D, _MATHVISTA, _CHARTQA, _MMMU, _BLINK, _MMBENCH)
VIDEO_BENCHMARKS = (_EGOSCHEMA, _MVBENCH, _NEXTQA, _VIDEOMME)
BENCHMARKS = {record.name: record for record in (*PICTURE_BENCHMARKS, *VIDEO_BENCHMARKS)}

LMMS_EVAL, STRICT = "lmms-eval-0.7.3", "strict"
PROTOCOLS = {"": LMMS_EVAL, "-strict": STRICT}  # what is appended to a benchmark's name

# Longer answers than this are cut: whoever has not said a letter by then will hardly do.
MOST_NEW_TOKENS = 128


def differences(record: Benchmark) -> tuple[str, ...]:
    """All lines that tell its figure from lmms-eval's."""
    if record.new_tokens <= MOST_NEW_TOKENS:
        return record.differences
    return (*record.differences, _CUT.format(cut=MOST_NEW_TOKENS, new_tokens=f"{record.new_tokens:,}"))


def names() -> tuple[str, ...]:
    """Of all tasks: every benchmark under every protocol."""
    return tuple(f"{name}{suffix}" for name in BENCHMARKS for suffix in PROTOCOLS)

"""The readable forms: what a stranger sees, and that the page stands alone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import Counter
from functools import cache, partial
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from tests.report import factory
from topovlm.choose.scoring import count_bars
from topovlm.report import formats
from topovlm.report.document import Bars, Figure, FormatPoint, Report, check
from topovlm.report.html import render_html, write_reports
from topovlm.report.markdown import render_markdown
from topovlm.report.plots import all_plots
from topovlm.report.plots.barcode import barcode_of
from topovlm.report.plots.layers import layers_plot
from topovlm.report.plots.plan import pareto_front
from topovlm.report.sections import accuracy_section
from topovlm.report.summary import Card, cards
from topovlm.report.tables import sections
from topovlm.topology.zigzag import zigzag_barcode

replace = msgspec.structs.replace
VOID = {"meta", "link", "br", "img", "hr", "input"}


class Page(HTMLParser):
    """Collects what the tests look at, and checks that tags are balanced."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("src", "href", "xlink:href", "data", "action"):
                self.links.append(value or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)


def elsewhere() -> Report:
    """A report for a board that is not at hand: timed here, predicted there."""
    report = factory.standard()
    assert report.latency is not None
    target = replace(
        report.target,
        requested="jetson-orin",
        key="jetson-agx-orin-64gb@maxn",
        board="Jetson AGX Orin 64GB",
        mode="MAXN",
        siblings=("jetson-orin-nano-8gb",),
    )
    budget = replace(report.budget, max_latency_ms=200.0, max_latency_share=None, latency_ms=200.0)
    return replace(report, target=target, budget=budget, latency=replace(report.latency, is_target=False))


def bare() -> Report:
    """Nothing measured and nothing pruned: the least that a report can hold."""
    report = factory.standard(pruned=False)
    plan = replace(report.plan, rows=(), verdict="dense", keep_layers=16, floor="none", floor_text="")
    return replace(report, accuracy=None, latency=None, plan=plan, artifacts=(), verifications=())


REPORTS = {
    "local": factory.standard,
    "elsewhere": elsewhere,
    "dense": lambda: factory.standard(pruned=False),
    "bare": bare,
}


@cache
def page_text(name: str) -> str:
    """The rendered page of one of the reports, drawn once."""
    return render_html(REPORTS[name]())


@pytest.mark.parametrize("name", REPORTS)
def test_page_is_whole_and_stands_alone(name: str) -> None:
    """Balanced tags, unique ids, no script, nothing fetched, every link inside the page."""
    text = page_text(name)
    page = Page(text)
    assert page.open == []
    prose = re.sub(r"<(svg|style).*?</\1>", "", text, flags=re.S)
    assert not re.search(r"\d %", prose)  # a percentage stays on one line
    assert [i for i, times in Counter(page.ids).items() if times > 1] == []
    assert page.tags["script"] == page.tags["img"] == page.tags["iframe"] == 0
    inside = {f"#{i}" for i in page.ids}
    assert [link for link in page.links if link not in inside and link != "data:,"] == []
    assert not re.search(r"@import|url\((?!#)", text)
    urls = set(re.findall(r"https?://[^\"'\s<)]*", text))
    assert urls <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


@pytest.mark.parametrize("name", REPORTS)
def test_tables_have_captions_and_plots_have_words(name: str) -> None:
    """What a screen reader needs: a caption per table, a title and a description per plot."""
    text = page_text(name)
    page = Page(text)
    assert page.tags["caption"] == page.tags["table"] > 0
    plots = re.findall(r"<svg.*?</svg>", text, flags=re.S)
    assert text.count('role="img"') == len(plots) == page.tags["svg"]
    for svg in plots:
        assert re.search(r"<title id=[^>]*>[^<]+</title><desc id=[^>]*>[^<]+</desc>", svg)
        assert not re.search(r"#0[1-7]0[1-7]0[1-7]", svg)  # every placeholder colour found its variable


def test_plots_follow_the_data() -> None:
    """A report has the plots that it has data for, and equal reports have equal plots."""
    assert set(all_plots(factory.standard())) == {
        "latency",
        "accuracy",
        "layers",
        "barcode",
        "topology",
        "plan",
    }
    assert set(all_plots(bare())) == set()
    assert layers_plot(factory.selection()) == layers_plot(factory.selection())


def test_text_from_models_and_files_is_escaped() -> None:
    """A model that answers with markup does not change the page."""
    report = factory.standard()
    assert report.accuracy is not None
    evil = "<script>alert(1)</script>|`x`"
    question = report.accuracy.questions[0]
    assert question.slim is not None
    answers = {"dense": replace(question.dense, score=1.0, text=evil)}
    changed = replace(question, slim=replace(question.slim, score=0.0, text=evil), id=evil, **answers)
    accuracy = replace(report.accuracy, questions=(changed,), sample_source=evil)
    report = replace(report, accuracy=accuracy, title=evil, dense=replace(report.dense, name=evil))
    assert "<script" not in render_html(report)
    assert "<script" not in render_markdown(report)


def test_first_screen_answers_four_questions() -> None:
    """Fits, right, loads, trust: with the figure, its kind, and what it rests on."""
    fits, right, loads, trust = cards(factory.standard())
    assert (fits.status, fits.kind) == ("yes", "measured")
    assert "75 % allowed" in fits.headline
    assert right.status == "partly"
    assert "points" in right.detail[0]
    assert "1,740 questions" in right.detail[0]
    assert (loads.status, loads.headline) == (
        "partly",
        "4 of 4 checks passed, TensorRT build bundle not checked",
    )
    assert trust.status == "yes"
    assert any("40 timed rounds" in line for line in trust.detail)


def test_a_single_round_is_no_proof() -> None:
    """One timed round within the budget is "partly", with the reason; it has no interval."""
    report = factory.report(timing=factory.latency(n=1))
    assert report.latency is not None
    assert {(p.dense.low, p.dense.high) for p in report.latency.phases} == {(None, None)}
    fits = cards(report)[0]
    assert fits.status == "partly"
    assert "1 timed round gives no interval: at least 6" in fits.detail[0]


def test_every_budget_is_judged() -> None:
    """One broken budget of four is a no; per token, memory and sparsity count as latency does."""
    report = factory.standard()
    assert report.latency is not None

    def fits(**asked: float | None) -> Card:
        return cards(replace(report, budget=replace(report.budget, **asked)))[0]

    assert fits(max_token_latency_ms=1.0, max_memory_bytes=210_000_000, sparsity=0.3).status == "yes"
    card = fits(max_token_latency_ms=0.5)
    assert (card.status, card.kind) == ("no", "measured")
    assert "per token, 0.500 ms allowed" in card.headline
    assert any("75 % allowed" in line and "yes (measured)" in line for line in card.detail)
    card = fits(max_memory_bytes=200_000_000)  # the slim model's measured peak is 201 MB
    assert card.status == "no"
    assert "of memory" in card.headline
    assert fits(sparsity=0.4).status == "no"  # 6 of 16 layers are 37.5 %
    assert fits(max_latency_share=None).status == "unknown"
    assert fits(max_latency_share=None, sparsity=0.3).status == "yes"


def test_a_predicted_budget_is_judged_as_the_plan_judged_it() -> None:
    """Where only the range of a prediction breaks a limit it is "partly", and the plan's own word counts."""
    report = elsewhere()

    def fits(**limits: tuple[str, ...]) -> Card:
        rows = tuple(replace(row, **{"exceeds": (), "at_risk": (), **limits}) for row in report.plan.rows)
        return cards(replace(report, plan=replace(report.plan, rows=rows)))[0]

    # 75 % of dense: the range's upper end is above the bound in ms and within the share of dense's upper end.
    report = replace(
        report, budget=replace(report.budget, max_latency_ms=None, max_latency_share=0.75, latency_ms=7.3)
    )
    assert fits().status == "yes"
    assert "72.9 % of dense, 75 % allowed (7.10 ms)" in fits().headline
    assert "for both models" in fits().detail[0]
    assert fits(at_risk=("latency",)).status == "partly"
    assert "range of the prediction" in fits(at_risk=("latency",)).detail[0]
    assert fits(exceeds=("latency",)).status == "no"
    assert fits(at_risk=("memory",)).status == "partly"  # the target's own memory, without a budget
    assert fits(at_risk=("memory",)).kind == "predicted"


def test_each_table_names_its_own_workload() -> None:
    """What was timed with eight new tokens is not shown as one, nor predicted as eight."""
    report = factory.standard()
    assert report.latency is not None
    timed = replace(report.latency, workload=replace(report.workload, new_tokens=8))
    for tokens, shown in ((1, False), (4, True)):
        report = replace(report, latency=timed, workload=replace(report.workload, new_tokens=tokens))
        measured, *_, expected = sections(report)[0].tables
        assert "8 new tokens" in measured.caption
        assert f"{tokens} new token{'s' if tokens > 1 else ''}," in expected.caption
        assert ("end to end" in {row[0] for row in expected.rows}) is shown
        assert (formats.predicted(report, "slim", "end_to_end") is not None) is shown


def test_the_plan_says_what_each_depth_breaks() -> None:
    """A row that cannot be chosen names the limit, or that the layers are protected."""
    report = factory.standard()
    few = tuple(replace(row, fits=row.fits and row.kept >= 5) for row in report.plan.rows)
    report = replace(report, plan=replace(report.plan, rows=few))
    table = next(section for section in sections(report) if section.name == "plan").tables[0]
    fits = {row[0]: row[-1] for row in table.rows}
    assert fits["16"] == "no: latency"
    assert fits["10 (deployed)"] == "perhaps: latency"
    assert fits["5"] == "yes"
    assert fits["4"] == "no: protected layers"


def test_a_prediction_claims_no_confidence() -> None:
    """Ninety-five per cent belongs to samples; a predicted range claims none."""
    report = factory.standard()
    assert report.latency is not None
    assert report.plan.rows[0].ttft.confidence is None
    assert report.latency.phases[0].dense.confidence == 0.95


def test_predictions_are_never_called_measured() -> None:
    """For a board elsewhere the fit is a prediction, and trust is partial."""
    fits, _, _, trust = cards(elsewhere())
    assert fits.kind == trust.kind == "predicted"
    assert trust.status == "partly"
    assert "Jetson AGX Orin 64GB are predictions" in trust.headline


def test_bad_news_is_said() -> None:
    """Over budget, failed checks and lost families turn the cards."""
    report = factory.report(timing=factory.latency(scale=1.4))
    assert report.accuracy is not None
    failed = (check(report.verifications[0].name, "slim", 9, "equal to", 10),)
    guessing = {family: right & False for family, right in factory.dense_answers().items()}
    worse = factory.report(slim=guessing).accuracy
    fits, right, loads, _ = cards(replace(report, verifications=failed, accuracy=worse))
    assert (fits.status, loads.status) == ("no", "no")
    assert "the floor is vision" in fits.detail[0]
    assert any("no better than guessing" in line for line in right.detail)
    assert cards(bare())[1].status == "unknown"


def test_few_questions_and_guessing_models_are_no_yes() -> None:
    """No loss shown on a dozen questions is not proof; a dense model that guesses has nothing to keep."""
    report = factory.standard()
    few = {family: right[:2] for family, right in factory.dense_answers().items()}
    section = accuracy_section(
        factory.outcomes(few),
        factory.outcomes(few),
        source="engine",
        sample_source="few questions",
        task="test",
    )
    assert cards(replace(report, accuracy=section))[1].status == "partly"
    wrong = {family: right & False for family, right in factory.dense_answers().items()}
    section = accuracy_section(
        factory.outcomes(wrong),
        factory.outcomes(wrong),
        source="engine",
        sample_source="guessing",
        task="test",
    )
    card = cards(replace(report, accuracy=section))[1]
    assert card.status == "unknown"
    assert "not clearly better than guessing" in card.detail[0]


def test_a_model_that_guesses_now_is_a_no() -> None:
    """Dense knew, slim guesses: that is no question of degree."""
    guessing = {family: right & False for family, right in factory.dense_answers().items()}
    card = cards(factory.report(slim=guessing))[1]
    assert card.status == "no"
    assert "not clearly better than guessing any more" in card.detail[0]


def test_only_engines_that_ran_are_a_plain_yes() -> None:
    """Without a TensorRT artefact every check passed means yes; with one, the card says it was not run."""
    report = factory.standard()
    card = cards(replace(report, artifacts=report.artifacts[:2]))[2]
    assert (card.status, card.headline) == ("yes", "4 of 4 checks passed")
    assert "onnx: ONNX graphs, 12.30 MiB, for ONNX Runtime, transformers.js" in card.detail
    assert "not loaded here: TensorRT build bundle" in cards(report)[2].detail[0]


def test_trust_claims_only_what_was_measured() -> None:
    """Latency without accuracy is not called both; a disturbed run says so in its headline."""
    report = factory.standard()
    card = cards(replace(report, accuracy=None))[3]
    assert (card.status, card.headline) == ("partly", "latency is measured here, accuracy is not")
    assert report.latency is not None
    busy = replace(report, latency=replace(report.latency, warnings=("the machine is busy",)))
    assert cards(busy)[3].headline == "latency and accuracy are measured here, with doubts"


def test_the_first_screen_stays_short() -> None:
    """Many remarks are counted, not listed, and all of them are in the sections below."""
    report = factory.standard()
    limits = tuple(f"remark {number}" for number in range(9))
    report = replace(report, provenance=replace(report.provenance, limits=limits))
    assert all(len(card.detail) <= 5 for card in cards(report))
    assert "more remarks below" in cards(report)[3].detail[-1]
    assert all(f"Not shown here: {limit}." in render_markdown(report) for limit in limits)


def test_markdown_has_the_same_tables() -> None:
    """Every table of the page is in the Markdown, with as many rows, and all columns line up."""
    report = factory.standard()
    text = render_markdown(report)
    for table in (table for section in sections(report) for table in section.tables):
        start = text.index(f"**{table.caption}**")
        block = text[start:].split("\n\n")[1].splitlines()
        assert len(block) == len(table.rows) + 2
        assert {len(re.findall(r"(?<!\\)\|", line)) for line in block} == {len(table.header) + 1}


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(0.8294, "share", "82.9\u00a0%"), (0.7101, "ratio", "0.710×"), (7.0, "ms", "7.00 ms"),
     (123.4, "ms", "123 ms"), (12345.0, "ms", "12.3 s"), (0.0042, "ms", "4.20 µs"), (0.0, "ms", "0.00 ms"),
     (6.5 * 2**20, "bytes", "6.50 MiB"), (0.17, "nats", "0.17 nats")],
)  # fmt: skip
def test_numbers_are_readable(value: float, unit: str, text: str) -> None:
    """Three significant digits in a fitting unit."""
    assert formats.number(value, unit) == text


def test_intervals_name_their_unit_once() -> None:
    """A share's interval, a ratio's interval, a difference in points, and a figure without any."""

    def figure(value: float, unit: str, low: float | None, high: float | None) -> Figure:
        return Figure(value=value, unit=unit, kind="measured", source="test", low=low, high=high)

    assert formats.figure_text(figure(0.5, "share", 0.4, 0.6)) == "50.0\u00a0% (40.0 to 60.0\u00a0%)"
    assert formats.figure_text(figure(0.5, "ratio", 0.4, 0.6)) == "0.500× (0.400× to 0.600×)"
    assert (
        formats.figure_text(figure(-0.05, "share", -0.06, 0.01), as_points=True)
        == "−5.0 points (−6.0 to +1.0)"
    )
    assert formats.figure_text(figure(900, "ms", 900, 12000)) == "900 ms (900 ms to 12.0 s)"
    assert formats.figure_text(figure(3, "ms", None, None)) == "3.00 ms"
    assert formats.figure_text(None) == "–"


def test_layers_are_listed_as_runs() -> None:
    """Three in a row become a run, two do not."""
    assert formats.layer_list((13, 6, 7, 9, 10, 11)) == "6, 7, 9–11, 13"
    assert formats.layer_list(()) == "none"


def test_all_three_forms_are_written(tmp_path: Path) -> None:
    """report.json, report.md and report.html, and nothing else."""
    write_reports(factory.standard(), tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["report.html", "report.json", "report.md"]


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_a_real_browser_shows_the_page(tmp_path: Path) -> None:
    """Chromium renders the page: the cards' coloured edges and both models' colours are on the picture."""
    (tmp_path / "profile").mkdir()
    (tmp_path / "report.html").write_text(page_text("local"), encoding="utf-8")
    assert CHROMIUM is not None
    quiet = ("gpu", "quic", "background-networking", "component-update", "sync")
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--no-first-run",
        "--hide-scrollbars",
        *(f"--disable-{name}" for name in quiet),
        f"--user-data-dir={tmp_path / 'profile'}",
        "--window-size=1280,1300",
        f"--screenshot={tmp_path / 'page.png'}",
        (tmp_path / "report.html").as_uri(),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    picture = Image.open(tmp_path / "page.png").convert("RGB")
    found = Counter(
        picture.get_flattened_data() if hasattr(picture, "get_flattened_data") else picture.getdata()
    )
    css = {
        name: tuple(bytes.fromhex(code))
        for name, code in re.findall(r"--(\w+): #(\w{6});", page_text("local"))[:11]
    }
    assert all(found[css[name]] > 200 for name in ("yes", "partly", "slim", "ink"))


def test_the_pareto_plot_shows_what_no_format_beats() -> None:
    """More layers in no more time and memory wins; a report without formats has no such plot."""
    point = partial(FormatPoint, fits=True)
    points = (
        point(dtype="fp16", kept=4, latency_ms=40.0, memory_bytes=4e9),
        point(dtype="w4a16", kept=4, latency_ms=50.0, memory_bytes=1e9),  # slower, but smaller
        point(dtype="int8", kept=4, latency_ms=45.0, memory_bytes=4e9),  # beaten by fp16
        point(dtype="int8", kept=5, latency_ms=60.0, memory_bytes=2e9),
    )
    assert pareto_front(points) == [points[0], points[1], points[3]]
    report = factory.standard()
    report = replace(report, plan=replace(report.plan, formats=points))
    svg = all_plots(report)["pareto"]
    assert all(name in svg for name in ("fp16", "w4a16", "int8"))
    assert 'id="pareto-title"' in render_html(report)
    assert "pareto" not in all_plots(factory.standard())


def test_the_reports_bars_are_the_engines() -> None:
    """What a report holds gives back the barcode that the layers were scored with."""
    layers = np.random.default_rng(0).normal(size=(5, 40, 6))
    barcode = zigzag_barcode(layers, k=4)
    bars = tuple(
        Bars(dim=row.dim, birth=row.birth, death=row.death, count=row.count) for row in count_bars(barcode)
    )
    few = {"scores": (0.0,) * 5, "dropped": (), "kept": (), "protected": (), "layers": (), "other_sets": ()}
    selection = replace(factory.selection(), **few, barcode=bars)
    assert np.array_equal(barcode_of(selection).bars, barcode.bars)


def test_scores_that_tell_nothing_are_named() -> None:
    """Too few samples for any loop: every layer scores zero, and the reader hears it."""
    report = factory.standard()
    told = "Every layer scored the same"
    assert told not in render_markdown(report)
    level = replace(report.selection, scores=(0.0,) * len(report.selection.scores))
    assert told in render_markdown(replace(report, selection=level))

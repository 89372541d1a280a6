"""report.html: one self-contained file: no script, no request, light and dark, narrow and wide, on paper."""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup

from topovlm.report.document import Report
from topovlm.report.plots import all_plots
from topovlm.report.store import REPORT_NAME, encode, write_together
from topovlm.report.summary import STATUS_WORDS, cards, verdict
from topovlm.report.tables import sections
from topovlm.text import for_html

_TEMPLATE = Path(__file__).with_name("template.html.j2")


def _plain(value: object) -> object:
    """Text that is seen whole, with `95 %` on one line; markup (the plots) passes as it is."""
    return Markup(for_html(value).replace(" %", "\u00a0%")) if type(value) is str else value


def render_html(report: Report) -> str:
    """The whole page. Text from the report is escaped; the plots are inline SVG."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_plain,
    )
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        report=report,
        verdict=verdict(report),
        cards=cards(report),
        words=STATUS_WORDS,
        sections=sections(report),
        plots={name: Markup(svg) for name, svg in all_plots(report).items()},
    )


def write_reports(report: Report, folder: str | Path) -> tuple[Path, Path, Path]:
    """Write report.json, report.md and report.html into a run directory; return their paths."""
    from topovlm.report.markdown import render_markdown

    folder = Path(folder)
    data, text, page = encode(report), render_markdown(report), render_html(report)
    files = {REPORT_NAME: data, "report.md": text.encode(), "report.html": page.encode()}
    write_together(folder, files)
    written, text_file, page_file = (folder / name for name in files)
    return written, text_file, page_file

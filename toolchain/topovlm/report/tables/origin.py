"""Where the numbers come from: command, machine, versions, sources, and what is not shown."""

from __future__ import annotations

from topovlm.report.document import Report
from topovlm.report.formats import ABSENT, number
from topovlm.report.identity import content_hash
from topovlm.report.tables.shape import Section, table, threads_text


def origin_section(report: Report) -> Section:
    environment, run, source = report.environment, report.run, report.provenance
    rows = [
        ("command", " ".join(run.argv) or ABSENT),
        ("made", run.created or ABSENT),
        ("topovlm", report.topovlm_version),
        ("seed", str(run.seed)),
        (
            "machine",
            f"{environment.cpu}, {environment.cores} cores, {number(environment.memory_bytes, 'bytes')}",
        ),
        ("accelerator", environment.accelerator or "none used"),
        ("system", f"{environment.system}, Python {environment.python}, {threads_text(environment.threads)}"),
        (
            "versions",
            ", ".join(f"{name} {version}" for name, version in environment.versions.items()) or ABSENT,
        ),
        ("model", f"{source.model_source} ({source.model_licence})"),
        ("data", f"{source.data_source}{f' ({source.data_licence})' if source.data_licence else ''}"),
        ("target facts", "; ".join(source.target_sources) or ABSENT),
        ("method", "; ".join(source.citations) or ABSENT),
        ("content hash", content_hash(report)),
    ]
    tables = [table("How this report came about", "what|value", rows)]
    if run.stages:
        stages = [(s.name, f"{s.seconds:.1f} s", "reused" if s.cached else "made") for s in run.stages]
        tables.append(table("Stages", "stage|wall time|result", stages, long=True))
    text = (
        "Measured means timed or counted by this run; predicted means computed from the target's published "
        "or calibrated figures. The content hash covers everything but times of day, timings, paths and the "
        "machine.",
        *(f"Not shown here: {limit}." for limit in source.limits),
    )
    return Section("origin", "Where the numbers come from", text, (), tuple(tables))

"""Hostile chat templates: bounded in time and memory, and refused as bad input, by all who render them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cases.command import reference_copy, topovlm

ADDRESSES = 6_000_000 << 10  # as `ulimit -v 6000000`
TEMPLATES = {
    "attribute access": "{{ ''.__class__.__mro__ }}",
    "raise_exception with escapes": "{{ raise_exception('boom \x1b[31m') }}",
    "syntax": "{% for %}",
    "include": "{% include '/etc/passwd' %}",
    "division": "{{ 1/0 }}",
    "recursion": "{% macro r(n) %}{{ r(n+1) }}{% endmacro %}{{ r(0) }}",
    "nested loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "a text that doubles": (
        "{% set n = namespace(s='x') %}{% for i in range(99) %}{% set n.s = n.s ~ n.s %}{% endfor %}"
    ),
    "a long product": "{{ 'x' * 10**10 }}",
    "a wide format": "{{ '%9999999999d' % 1 }}",
    "loops for transformers alone": (
        "{% if lipsum is defined %}{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}"
        "{% endfor %}{% endif %}{{ 1/0 }}"
    ),
}


def model(folder: Path, name: str) -> Path:
    file = reference_copy(folder) / "chat_template.jinja"
    own = file.read_text() if name == "nested loops" else ""
    file.write_text(TEMPLATES[name] + own)
    return folder


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_verified_prune_refuses_it(tmp_path: Path, name: str) -> None:
    """Before it is written: the checkpoint's own template is at fault, and no folder is left."""
    words = ["prune", "--model", model(tmp_path / "m", name), "--drop", 5, "-o", tmp_path / "o"]
    done = topovlm(*words, cwd=tmp_path, limit_s=60, memory_bytes=ADDRESSES)
    assert done.refused, (done.code, done.last)
    assert "\x1b" not in done.err
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("command", ["score", "export"])
def test_so_does_whoever_renders_it(tmp_path: Path, command: str) -> None:
    """Loops that would take hours."""
    words = [command, "--model", model(tmp_path / "m", "nested loops")]
    words += ["-o", tmp_path / "o"] if command == "export" else ["--samples", 8]
    done = topovlm(*words, cwd=tmp_path, limit_s=60, memory_bytes=ADDRESSES)
    assert done.refused, (done.code, done.last)

"""The command line: its surface is frozen, its errors are sentences, its start is light."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from topovlm import __version__, cli

EXIT = {"InputError": 2, "BudgetError": 3, "MissingToolError": 5, "VerificationError": 6}


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "topovlm", *words], capture_output=True, text=True, timeout=120, check=False
    )


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """--version prints the package's version and succeeds."""
    with pytest.raises(SystemExit) as raised:
        cli.main(["--version"])
    assert raised.value.code == 0
    assert capsys.readouterr().out == f"topovlm {__version__}\n"


def test_no_command_is_usage(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a command the help goes to standard error, with exit code 2."""
    assert cli.main([]) == 2
    captured = capsys.readouterr()
    assert "COMMAND" in captured.err
    assert captured.out == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["deplay"], "invalid choice"),
        (["deploy", "--targt", "local"], "--targt"),
        (["deploy", "--max-lat", "60%"], "--max-lat"),
        (["deploy", "--k", "none"], "--k = 'none': is no number and none of auto, plateau"),
        (["check", "a"], "--baseline"),
        (["targets", "jetson-orinn"], "Did you mean jetson-orin"),
    ],
)
def test_usage_errors_are_one_sentence(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, one line that starts with the program's name, nothing on standard output."""
    assert cli.main(words) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.startswith("topovlm: ")
    assert "Traceback" not in captured.err
    assert captured.out == ""


def test_json_errors_are_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    """With --json the error is on standard output too, with its kind and exit code."""
    assert cli.main(["targets", "nothing-like-it", "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["kind"], error["exit_code"]) == ("InputError", 2)


@pytest.mark.parametrize("kind", EXIT)
def test_each_kind_of_error_has_its_exit_code(
    kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The mapping of design and documentation."""
    from topovlm import errors
    from topovlm.commands import targets

    def fail(args: object) -> int:
        raise getattr(errors, kind)("as it is")

    monkeypatch.setattr(targets, "run", fail)
    assert cli.main(["targets"]) == EXIT[kind]
    assert capsys.readouterr().err == "topovlm: as it is\n"


def test_an_internal_error_names_a_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, no traceback on the screen; the log has it, and so does --debug."""
    from topovlm.commands import targets

    def fail(args: object) -> int:
        raise RuntimeError("what nobody expected")

    monkeypatch.setattr(targets, "run", fail)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cli.main(["targets"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("topovlm: internal error: RuntimeError: what nobody expected. Details: ")
    assert "Traceback" not in error
    log = Path(error.strip().rpartition("Details: ")[2])
    assert "Traceback" in log.read_text()
    assert cli.main(["targets", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_memory_that_runs_out_is_no_internal_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Python's, a GPU's, and what torch really says when a tensor does not fit."""
    import torch

    from topovlm.commands import targets

    def too_much(args: object) -> int:
        torch.empty(1 << 60, dtype=torch.uint8)
        return 0

    def raises(error: Exception) -> Callable[[object], int]:
        def fail(args: object) -> int:
            raise error

        return fail

    for fail in (too_much, raises(MemoryError()), raises(torch.OutOfMemoryError("CUDA out of memory."))):
        monkeypatch.setattr(targets, "run", fail)
        assert cli.main(["targets"]) == 2
        assert "memory" in (said := capsys.readouterr().err)
        assert "--memory" in said


def test_interruption_has_its_own_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C is 130, as shells expect."""
    from topovlm.commands import targets

    def interrupt(args: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(targets, "run", interrupt)
    assert cli.main(["targets"]) == 130


def test_underscores_in_flags_are_accepted(capsys: pytest.CaptureFixture[str]) -> None:
    """--max_latency is --max-latency: both spellings are common."""
    assert cli.main(["deploy", "--max_latency=200"]) == 2
    assert "--max-latency = '200': has no unit" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["--help"], ["deploy", "--help"], ["sweep", "--help"], ["targets", "--json"]]
)
def test_light_commands_import_nothing_heavy(words: list[str]) -> None:
    """No torch, transformers, onnxruntime, matplotlib or numba for what must start at once."""
    code = (
        "import sys\nfrom topovlm import cli\n"
        "try:\n    cli.main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'transformers', 'onnxruntime', 'matplotlib', 'numba', 'sklearn', 'scipy'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_every_command_and_flag(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The script is made from the parser."""
    assert cli.main(["--print-completion", shell]) == 0
    script = capsys.readouterr().out
    for word in ("deploy", "check", "max-latency", "baseline", "topovlm-deploy"):
        assert word in script


COMPLETIONS = (
    ("topovlm dep", "deploy"),
    ("topovlm check --base", "--baseline"),
    ("topovlm-deploy --max-mem", "--max-memory"),
    ("topovlm check some/", "some/report.json"),
    ("topovlm deploy --data some/", "some/report.json"),
)


def test_bash_completion_completes(tmp_path: Path) -> None:
    """The script works in a real bash: commands, flags, files, and topovlm-deploy without a command."""
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "report.json").touch()
    (tmp_path / "complete").write_text(run("--print-completion", "bash").stdout)
    body = """
        source ./complete; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
        function=$(complete -p "$1" | sed 's/.*-F \\([^ ]*\\).*/\\1/')
        "$function" "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"; echo "${COMPREPLY[@]}"
    """
    for words, expected in COMPLETIONS:
        argv = ["bash", "-c", body, "bash", *words.split()]
        done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=True)
        assert expected in done.stdout.split(), words


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is absent")
def test_fish_completion_completes(tmp_path: Path) -> None:
    """The same in a real fish."""
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "report.json").touch()
    (tmp_path / "complete").write_text(run("--print-completion", "fish").stdout)
    for words, expected in COMPLETIONS:
        argv = ["fish", "--no-config", "-c", f"source ./complete; complete -C '{words}'"]
        done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=True)
        assert expected in done.stdout.split(), words


def test_doctor_reports_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    """All required packages are found in the environment that runs the tests."""
    assert cli.main(["doctor", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["ok"]
    assert {row["name"] for row in document["packages"]} >= {"torch", "onnxruntime"}


def test_doctor_sees_two_builds_of_onnxruntime(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The CPU and the GPU wheel share files: both being installed is named, with the way out."""
    installed = tmp_path / "onnxruntime_gpu-9.9.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: onnxruntime-gpu\nVersion: 9.9\n")
    assert cli.main(["doctor", "--json"]) == 0
    assert "conflict" not in {row["state"] for row in json.loads(capsys.readouterr().out)["packages"]}
    monkeypatch.syspath_prepend(tmp_path)
    assert cli.main(["doctor", "--json"]) == 0
    packages = json.loads(capsys.readouterr().out)["packages"]
    (row,) = [row for row in packages if row["state"] == "conflict"]
    assert "onnxruntime-gpu 9.9" in row["version"]
    assert "--force-reinstall --no-deps onnxruntime-gpu" in row["remedy"]


def surface() -> str:
    """Every command with its flags and positional arguments, one per line."""
    import argparse

    parser = cli.build_parser()
    (subparsers,) = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    lines = []
    for name, child in subparsers.choices.items():
        words = [max(a.option_strings, key=len, default=a.metavar or a.dest) for a in child._actions]
        lines.append(f"{name}: {' '.join(map(str, words))}")
    return "\n".join(lines) + "\n"


def test_the_surface_changes_only_on_purpose() -> None:
    """Commands and flags are a promise: update tests/cli_surface.txt together with CHANGELOG.md."""
    assert surface() == Path(__file__).with_name("cli_surface.txt").read_text()


def test_every_flag_of_deploy_is_a_key_of_the_file() -> None:
    """topovlm.toml can say all that the flags say, but for what concerns one call only."""
    from topovlm.config import OPTIONS

    (line,) = [line for line in surface().splitlines() if line.startswith("deploy: ")]
    flags = set(line.split()[1:]) - {"--help", "--config", "--dry-run", "--json", "--debug"}
    assert flags == {option.flag for option in OPTIONS}


def test_a_sweep_takes_every_flag_of_a_deployment() -> None:
    """But for the one that only plans."""
    lines = {line.partition(":")[0]: set(line.split()[1:]) for line in surface().splitlines()}
    assert lines["sweep"] == lines["deploy"] - {"--dry-run"}


def test_documentation_names_every_command_and_exit_code() -> None:
    """docs/cli.md and docs/ci.md keep up with the command line."""
    docs = Path(__file__).parents[1] / "docs"
    text = (docs / "cli.md").read_text()
    for line in surface().splitlines():
        assert f"`{line.partition(':')[0]}`" in text
    for code in (0, 1, 2, 3, 4, 5, 6, 129, 130, 141, 143):
        assert f"| {code} |" in (docs / "ci.md").read_text()

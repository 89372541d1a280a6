"""Kinds of device by the scheme of their address: ours, and those of installed packages."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from topovlm.config import resolve
from topovlm.errors import InputError
from topovlm.measure.devices import DEVICES, open_device
from topovlm.measure.local import LocalDevice
from topovlm.measure.ssh.device import SshDevice

SERIAL = """
from topovlm.errors import InputError, explain
from topovlm.measure.local import LocalDevice

class Serial(LocalDevice):
    def __init__(self, text, *, say=None):
        if not text.startswith("serial:///dev/"):
            raise InputError(explain("--device", text, "is no serial port"))
        self.port = text.removeprefix("serial://")
"""


def test_ours() -> None:
    """This machine, and boards over ssh; nothing is connected by asking."""
    assert isinstance(open_device(), LocalDevice)
    assert isinstance(open_device("ssh://board.invalid"), SshDevice)
    with pytest.raises(InputError, match=r"Write local, ssh://\.\.\."):
        open_device("serial:///dev/ttyUSB0")
    with pytest.raises(InputError, match="more than this machine needs"):
        open_device("local://here")


def test_a_package_adds_a_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its entry point makes the address one that `--device` takes, with its own rules."""
    (tmp_path / "serial_board.py").write_text(SERIAL, encoding="utf-8")
    metadata = tmp_path / "serial_board-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: serial-board\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[topovlm.devices]\nserial = serial_board:Serial\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        assert DEVICES.names() == ("local", "ssh", "serial")
        assert resolve({"device": "serial:///dev/ttyUSB0"}).device == "serial:///dev/ttyUSB0"
        assert vars(open_device("serial:///dev/ttyUSB0")) == {"port": "/dev/ttyUSB0"}
        with pytest.raises(InputError, match="is no serial port"):
            resolve({"device": "serial://x"})
    finally:
        sys.modules.pop("serial_board", None)

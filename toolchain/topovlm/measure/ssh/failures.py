"""What can go wrong with a board: where, in which step, what happened, what to do."""

from __future__ import annotations

from topovlm.errors import MissingToolError, explain
from topovlm.measure.ssh.address import FLAG, Address
from topovlm.records import Part


class DeviceError(MissingToolError):
    """A board could not do a step; `partial` is what had been measured by then, if anything."""

    def __init__(self, address: Address, step: str, happened: str, remedy: str = "") -> None:
        self.address, self.step, self.happened, self.remedy = address, step, happened, remedy
        self.partial: Part | None = None
        super().__init__(explain(FLAG, address.text, f"{step}: {happened}", remedy))

    def keep(self, partial: Part, kept: str) -> None:
        """Attach what was measured, and say so."""
        self.partial = partial
        remedy = f"{kept}. {self.remedy}" if self.remedy else kept
        self.args = (explain(FLAG, self.address.text, f"{self.step}: {self.happened}", remedy),)


class ConnectionLost(DeviceError):
    """The connection ended in the middle."""


class DeviceTimeout(DeviceError):
    """The board took longer than it may."""

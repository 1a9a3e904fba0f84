"""`caption-assets` in this process: what it prints and how it ends."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from caption_assets.cli.main import main


@dataclass(frozen=True)
class Said:
    """What a command said and its exit status."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class Command:
    """Call it with the words that a user would type."""

    capture: pytest.CaptureFixture[str]
    patch: pytest.MonkeyPatch
    root: Path | None = None

    def __call__(self, *words: object) -> Said:
        arguments = [str(word) for word in words]
        if self.root is not None:
            arguments += ["--root", str(self.root)]
        self.capture.readouterr()
        self.patch.setattr(sys, "argv", ["caption-assets", *arguments])
        try:
            main()
            status: Any = 0
        except SystemExit as end:
            status = end.code or 0
        out, err = self.capture.readouterr()
        return Said(status, out, err)

from collections.abc import Iterator
from pathlib import Path

import pytest

from caption_assets.ledger.database import Ledger
from caption_assets.root import RootFolder

from .story import Story


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(RootFolder.at(tmp_path / "root"))


@pytest.fixture
def story(tmp_path: Path) -> Iterator[Story]:
    """An empty ledger. After the test, the captions that it kept in step are those that follow from its history."""
    story = Story(tmp_path / "root")
    yield story
    assert story.ledger.verify() == []

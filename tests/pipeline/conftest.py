from pathlib import Path

import pytest

from tests.ledger.story import Story


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path / "root")

"""Where real data are; tests on them come on top, no behaviour is tested by them alone."""

import os
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
DATA = Path(os.environ.get("ELIQUARE_DATA", PROJECT.parent / "shared" / "data")).resolve()
needs_data = pytest.mark.skipif(
    not DATA.is_dir(), reason=f"no real data at {DATA}; set ELIQUARE_DATA to its folder"
)

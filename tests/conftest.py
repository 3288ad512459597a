"""What all tests share: the demo's languages, and where real data are."""

import os
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
DATA = Path(os.environ.get("ELIQUARE_DATA", PROJECT.parent / "shared" / "data")).resolve()
# Tests on real data come on top; no behaviour is tested by them alone.
needs_data = pytest.mark.skipif(
    not DATA.is_dir(), reason=f"no real data at {DATA}; set ELIQUARE_DATA to its folder"
)

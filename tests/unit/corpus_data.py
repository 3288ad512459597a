"""Where the real dumps and texts are that some tests of the corpus read."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("ELIQUARE_DATA", ROOT / ".." / "shared" / "data")).resolve()
HOST = DATA / "mirror" / "dumps.wikimedia.org"
needs_data = pytest.mark.skipif(
    not HOST.is_dir(), reason=f"no real data at {DATA}; set ELIQUARE_DATA to its folder"
)

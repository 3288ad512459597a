"""Where real data are; tests on them come on top, no behaviour is tested by them alone."""

import os
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
DATA = Path(os.environ.get("ELIQUARE_DATA", PROJECT.parent / "shared" / "data")).resolve()
needs_data = pytest.mark.skipif(
    not DATA.is_dir(), reason=f"no real data at {DATA}; set ELIQUARE_DATA to its folder"
)
# Where `make real` writes it.
TEACHER = Path(os.environ.get("ELIQUARE_TEACHER", PROJECT / "resources/replication/e5-small"))
needs_teacher = pytest.mark.skipif(
    not (TEACHER / "config.json").exists() or not DATA.is_dir(),
    reason=f"no real encoder at {TEACHER}, which `make real` writes; set ELIQUARE_TEACHER to one",
)

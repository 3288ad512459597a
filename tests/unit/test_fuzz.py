"""Readers of what others wrote return, or say in plain words what is wrong: a few seconds of each.

`python tests/benchmarks/fuzz.py --seconds 600` tries more.
"""

import pytest
from hypothesis import HealthCheck, given, settings

from fuzzing import NAMES, fuzzed, survives

# Of the slow ones fewer.
EXAMPLES = {"configuration": 20, "YAML": 8, "weights": 12}


@pytest.fixture(scope="module")
def readers(tmp_path_factory):
    return fuzzed(tmp_path_factory.mktemp("fuzz"))


def test_every_reader_is_tried(readers):
    assert list(readers) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_reader_survives_any_file(readers, name):
    read, strategy = readers[name]

    @settings(
        max_examples=EXAMPLES.get(name, 12 if "json of" in name else 40),
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=HealthCheck,
    )
    @given(strategy)
    def attempt(given):
        survives(read, given)

    attempt()

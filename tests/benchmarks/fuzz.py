"""Fuzz the readers of what others wrote, for as long as is told: what is tried, and what breaks.

    python tests/benchmarks/fuzz.py --seconds 60 [--only x.csv]

Prints JSON: for each reader how much was tried, and the smallest input that broke it, if any did.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings

sys.path.insert(0, str(Path(__file__).parents[1]))
from fuzzing import fuzzed, survives


def main() -> None:
    """Fuzz each reader for its share of the time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="In all. Default: 60")
    parser.add_argument("--only", default="", help="Readers whose name holds this.")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        every = {n: of for n, of in fuzzed(Path(folder)).items() if arguments.only in n}
        found = {name: fuzz(*of, arguments.seconds / len(every)) for name, of in every.items()}
    print(json.dumps(found, indent=1))
    sys.exit(any(each["broken"] for each in found.values()))


def fuzz(read: Any, strategy: Any, seconds: float) -> dict[str, Any]:
    """Return what was tried with a reader, and the first fault."""
    tried, end, broken = 0, time.monotonic() + seconds, ""
    while time.monotonic() < end and not broken:
        last: Any = None

        @settings(max_examples=100, deadline=None, database=None, suppress_health_check=HealthCheck)
        @given(strategy)
        def attempt(given: Any) -> None:
            nonlocal tried, last
            tried += 1
            last = given
            survives(read, given)

        try:
            attempt()
        except Exception as error:
            broken = f"{type(error).__name__}: {error}: {last!r:.300}"
    return {"tried": tried, "broken": broken}


if __name__ == "__main__":
    main()

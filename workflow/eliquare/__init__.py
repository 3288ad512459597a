"""Small, fast language models for one language out of large multilingual ones."""

import os

__version__ = "0.2.0"

# Threads that wait for each other by spinning slow two trainings on shared cores tenfold and more;
# the library that torch's threads come from reads this when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

"""One thread per process, before torch is imported: the tests share the cores.

Several tests fork, and a process that is forked after OpenMP has started its threads waits for them
forever.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"

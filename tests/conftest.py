"""One thread per process, before torch is imported: the tests share the cores.

Several tests fork, and a process that is forked after OpenMP has started its threads waits for them
forever. And no GPU, unless one is named: there a training twice does not give the same bytes.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

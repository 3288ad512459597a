"""torchrun, which ends with the exit code of its processes.

A training says by its code what is to be done: 2 to mend the input, 75 to run it again. torchrun's
own is 1 for both, below a traceback.
"""

import sys

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main

from eliquare.interrupts import EXIT_BY_SIGNAL


def launch() -> None:
    """Run torchrun; exit with the code of the process that ended first with one."""
    try:
        main()  # type: ignore[no-untyped-call]
    except ChildFailedError as error:
        code = error.get_first_failure()[1].exitcode
        sys.exit(code if code > 0 else EXIT_BY_SIGNAL - code)


if __name__ == "__main__":
    launch()

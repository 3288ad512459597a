"""Run the generator as ``python -m demo_languages``."""

from demo_languages.world import parser, run
from eliquare.cli import boundary

if __name__ == "__main__":
    with boundary():
        run(parser().parse_args())

"""Run the generator as ``python -m demo_languages``."""

from demo_languages.world import parser, run

if __name__ == "__main__":
    run(parser().parse_args())

"""Run the command line as ``python -m eliquare``."""

from eliquare.cli import main

if __name__ == "__main__":
    main()

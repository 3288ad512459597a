"""Run the command line as ``python -m eliquare``."""

import signal

if __name__ == "__main__":
    # Until `cli.main` takes signals: while it is imported, Ctrl-C prints no traceback.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    from eliquare.cli import main

    main()

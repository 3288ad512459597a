"""Run the generator as ``python -m demo_languages``."""

import signal

if __name__ == "__main__":
    # Until `boundary` takes signals: while it is imported, Ctrl-C prints no traceback.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    from demo_languages.world import parser, run
    from eliquare.cli import boundary

    with boundary():
        run(parser().parse_args())

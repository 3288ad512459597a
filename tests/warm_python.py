"""A Python that has imported what most programs of a run import, for runs of many small stages.

An import of torch and transformers takes up to 15 seconds here, and a project of a test has some
fifty stages. A warm run asks one process to fork instead: a program has the folder, environment,
output and exit code that it would have had, and the package of its project. Only the imports of
other packages are not its own.
"""

import atexit
import gc
import json
import os
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

# Bash reads it at each start. The student called pre, whose costs a test reads, has its own Python.
FUNCTION = """
python() {{
    case "$*" in
        */students/pre/*) command python "$@" ;;
        *) {command} "$@" ;;
    esac
}}
"""
IMPORTS = (
    "datasets",
    "matplotlib.pyplot",
    "pandas",
    "seqeval.metrics",
    "snakemake.cli",
    "transformers.models.bert.modeling_bert",
    "transformers.models.modernbert.modeling_modernbert",
    "transformers.trainer",
)
LARGEST_REQUEST = 1 << 20
ALONE = ["unshare", "--net"]
CLIENT = Path(__file__).with_name("warm_client.py")


def can_be_alone() -> bool:
    """Return whether a process can be given a network of its own here."""
    try:
        return subprocess.run([*ALONE, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@cache
def warm_python(offline: bool) -> tuple[list[str], Mapping[str, str]]:
    """Return the command that stands for Python, and the environment in which Bash uses it.

    Offline, it has a network of its own with nothing in it, where that can be had.
    """
    # No TemporaryDirectory: each process that is forked from this one would remove it.
    folder = Path(tempfile.mkdtemp(prefix="warm"))
    address = folder / "socket"
    command = [*(ALONE if offline and can_be_alone() else []), sys.executable, __file__]
    server = subprocess.Popen([*command, str(address)], start_new_session=True)
    owner = os.getpid()

    def end() -> None:
        if os.getpid() != owner:  # forked from the one that started it
            return
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        shutil.rmtree(folder)

    atexit.register(end)
    while not address.exists():
        assert server.poll() is None
        time.sleep(0.1)
    command = [sys.executable, "-S", str(CLIENT), str(address)]
    function = folder / "function.sh"
    function.write_text(FUNCTION.format(command=" ".join(command)))
    return command, {"BASH_ENV": str(function)}


def serve(address: str) -> None:
    """Start a process for each request, which runs a program as the one that asks would have."""
    for name in IMPORTS:
        import_module(name)
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.bind(address)
        server.listen(64)
        while True:
            connection, _ = server.accept()
            if os.fork():
                connection.close()
                continue
            server.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            request, files, *_ = socket.recv_fds(connection, LARGEST_REQUEST, 3)
            if program := os.fork():
                _, status = os.waitpid(program, 0)
                connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())
                os._exit(0)
            connection.close()
            # Without taking apart what was imported, which takes a third of a second.
            os._exit(run(files, **json.loads(request)))


def run(files: list[int], folder: str, environment: dict[str, str], arguments: list[str]) -> int:
    """Run ``python -m module …`` in this process; return its exit code."""
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[0] = environment.get("PYTHONPATH", folder)
    _, module, *sys.argv[1:] = arguments
    code: Any = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as error:
        code = error.code
    except BaseException:
        traceback.print_exc()
        code = 1
    if isinstance(code, str):
        print(code, file=sys.stderr)
        code = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    return code or 0


if __name__ == "__main__":
    serve(sys.argv[1])

"""Programs of a test that are signalled, and every process that they start, of any parent."""

import contextlib
import ctypes
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping

import psutil

import warm_python
from every_stage import environment
from tiny_project import Project

SECONDS_TO_LEAVE, SECONDS_TO_END = 30, 600
PR_SET_CHILD_SUBREAPER = 36
OURS = ("eliquare", "demo_languages")
# The warm Pythons, which are no program of a test.
SERVERS: set[int] = set()


class Started:
    """A program in a session of its own: ``python -m …``, or forked from this process.

    Forked, it need not import what other packages hold; what is ours, it imports itself.
    """

    def __init__(
        self, project: Project, arguments: list[str], variables: Mapping[str, str], forked: bool
    ):
        self.output = tempfile.TemporaryFile("w+")  # noqa: SIM115
        # Whether its processes may go on after it.
        self.forget = False
        self.before = set(descendants())
        self.code: int | None = None
        variables = environment() | dict(variables)
        if not forked:
            self.pid = subprocess.Popen(
                [sys.executable, *arguments], cwd=project.folder, env=variables,
                stdout=self.output, stderr=subprocess.STDOUT, start_new_session=True,
            ).pid  # fmt: skip
        elif not (pid := os.fork()):
            if arguments[1] in OURS:  # the first thing that they do
                signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.setsid()
            for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
                del sys.modules[name]
            files = [
                os.open(os.devnull, os.O_RDONLY),
                *(os.dup(self.output.fileno()) for _ in "ab"),
            ]
            os._exit(warm_python.run(files, str(project.folder), variables, arguments))
        else:
            self.pid = pid

    def __enter__(self) -> "Started":
        return self

    def __exit__(self, *error: object) -> None:
        if not self.forget:
            kill(set(descendants()) - self.before)
        self.ended(SECONDS_TO_END)
        self.output.close()

    def poll(self) -> int | None:
        """Return the exit code, below 0 for a signal; None while it runs."""
        if self.code is None and (status := os.waitpid(self.pid, os.WNOHANG))[0]:
            self.code = os.waitstatus_to_exitcode(status[1])
        return self.code

    def wait_for(self, condition: Callable[[], bool], pause: float = 0.0005) -> bool:
        """Wait until something is so; return whether it was before the program ended."""
        while not condition():
            if self.poll() is not None:
                return condition()
            time.sleep(pause)
        return True

    def ended(self, seconds: float) -> int | None:
        """Wait so long; return the exit code, None if it runs on."""
        end = time.monotonic() + seconds
        while self.poll() is None and (left := end - time.monotonic()) > 0:
            time.sleep(min(0.005, left))
        return self.code

    def send(self, number: int, draw: random.Random, one: bool = False) -> str:
        """Send a signal to the program, or others too, with ``one`` to one of them; return whom."""
        inside = sorted({*below(self.pid), *of_servers()})
        ways = {
            signal.SIGKILL: {"itself": 2, "all": 1, "a descendant": one and bool(inside)},
            signal.SIGINT: {"its group": 1},
            signal.SIGTERM: {"itself": 2, "its group": 1},
        }[signal.Signals(number)]
        (to,) = draw.choices(list(ways), list(ways.values()))
        if self.poll() is not None:
            return "nobody"
        if to == "its group":
            os.killpg(self.pid, number)
            kill(of_servers(), number)
        elif to == "a descendant":
            kill([draw.choice(inside)], number)
        else:
            kill([self.pid, *inside] if to == "all" else [self.pid], number)
        return to

    def printed(self) -> str:
        """Return what was printed."""
        self.output.seek(0)
        return self.output.read()


def kill(pids: Iterable[int], number: int = signal.SIGKILL) -> None:
    """Send a signal to processes, where they are still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def below(pid: int) -> dict[int, str]:
    """Return the processes below one that run, with their commands."""
    found: dict[int, str] = {}
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if child.status() != psutil.STATUS_ZOMBIE:
                    found[child.pid] = " ".join(child.cmdline())
    return found


def descendants() -> dict[int, str]:
    """Return the processes below this one that run, without the Python that has imported all."""
    return {pid: said for pid, said in below(os.getpid()).items() if pid not in SERVERS}


def of_servers() -> dict[int, str]:
    """Return the stages that run in a warm Python, which are nowhere below who started them."""
    return {pid: said for server in SERVERS for pid, said in below(server).items()}


def serve(project: Project) -> dict[str, str]:
    """Return the environment in which Bash starts stages in a warm Python."""
    _, of_bash = warm_python.warm_python(project.offline)
    SERVERS.update(pid for pid, said in below(os.getpid()).items() if "/warm_python.py" in said)
    return dict(of_bash)


def wait_until_left(before: set[int]) -> tuple[list[str], float]:
    """Return the commands of new processes that are left after a while, and how long it took."""
    begun = time.monotonic()
    while left := {pid: said for pid, said in descendants().items() if pid not in before}:
        if time.monotonic() - begun > SECONDS_TO_LEAVE:
            break
        time.sleep(0.05)
    return list(left.values()), time.monotonic() - begun


def watch_all() -> None:
    """Become the parent of whoever loses its own, so that no process gets out of sight."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)

"""WikiExtractor as a program beside this one: a page goes in, its text comes out.

WikiExtractor (AGPL) is never imported. Each process of a stage has one program of its own, fed page
by page, so that a page that takes too long or breaks it costs that page alone. The program is
three processes (reader, worker, writer), which end with the process that started them, however
that ends.
"""

import contextlib
import html
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import psutil

from eliquare.io import Failure, system_error

PROGRAM = [sys.executable, "-m", "wikiextractor.WikiExtractor"]
OPTIONS = ["/dev/stdin", "--json", "-q", "-o", "-", "--processes", "1"]
PAGE_SECONDS = 60  # a page takes milliseconds
AHEAD = 8  # it takes ten pages before it waits for its output to be read
LOOK_EVERY_SECONDS = 1
# A shell whose input ends when this process does kills the group of the program.
SHARED_MEMORY = "shared memory is needed: /dev/shm, writable and with room"
WATCH = ["sh", "-c", 'read _; kill -KILL "-$1"', "watch"]
HEADER = """<mediawiki>
  <siteinfo>
    <base>https://wiki/wiki/Main</base>
    <namespaces>
      <namespace key="10" case="first-letter">{}</namespace>
    </namespaces>
  </siteinfo>
"""
PAGE = """  <page>
    <title>{}</title>
    <ns>0</ns>
    <id>{}</id>
    <revision>
      <id>1</id>
      <text>{}</text>
    </revision>
  </page>
"""


class PageError(Exception):
    """A page that WikiExtractor cannot read; the next page can be read."""


class TooSlow(PageError):
    """A page that took longer than PAGE_SECONDS."""


class Extractor:
    """WikiExtractor, started at the first page and again after a page that stopped it.

    Args:
        templates: The name of the template namespace.
        options: Further options of WikiExtractor.
    """

    def __init__(self, templates: str, options: Sequence[str]):
        self.templates = templates
        self.options = options
        self._pages = 0
        self._program: subprocess.Popen[bytes] | None = None

    def texts(self, pages: Iterable[tuple[str, str]]) -> Iterator[str | PageError]:
        """Yield the text of each page (title, wikitext), with <, > and & as entities.

        In place of a text stands the PageError of a page that WikiExtractor cannot read. Pages go
        in before the text of those before them comes out, so that both programs have work.

        Raises Failure if WikiExtractor does not run at all or one of its processes was killed.
        """
        waiting: deque[tuple[str, str]] = deque()
        for page in pages:
            self._send(*page)
            waiting.append(page)
            if len(waiting) > AHEAD:
                yield self._receive(waiting)
        while waiting:
            yield self._receive(waiting)

    def _receive(self, waiting: deque[tuple[str, str]]) -> str | PageError:
        """Return the text of the first page that waits, which waits no longer."""
        waiting.popleft()
        try:
            return self._text(PAGE_SECONDS)
        except PageError as error:
            self.close()
            for page in waiting:
                self._send(*page)
            return error

    def _start(self) -> None:
        self._program = subprocess.Popen(
            [*PROGRAM, *OPTIONS, *self.options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env=os.environ | {"PYTHONIOENCODING": "utf-8", "PYTHONUNBUFFERED": "1"},
        )
        self._watch = subprocess.Popen(
            [*WATCH, str(self._program.pid)],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._output, self._errors = bytearray(), b""
        self._selector = selectors.DefaultSelector()
        for name in ("stdout", "stderr"):
            self._selector.register(getattr(self._program, name), selectors.EVENT_READ, name)
        try:
            self._write(HEADER.format(html.escape(self.templates, quote=False)))
            self._send("-", "-")
            self._text(None)  # it reads templates first, which may take minutes
        except PageError as error:
            self.close()
            needs = f"; {SHARED_MEMORY}" if system_error(error) else ""
            raise Failure(f"WikiExtractor failed: {error}{needs}") from None

    def _send(self, title: str, wikitext: str) -> None:
        """Give a page to the program, which is started if it does not run."""
        if self._program is None:
            self._start()
        self._pages += 1
        title, wikitext = (html.escape(each, quote=False) for each in (title, wikitext))
        self._write(PAGE.format(title, self._pages, wikitext))

    def _write(self, text: str) -> None:
        assert self._program is not None
        assert self._program.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended: who reads its output says why
            self._program.stdin.write(text.encode())
            self._program.stdin.flush()

    def _text(self, seconds: float | None) -> str:
        """Return the text of the next page."""
        text: str = json.loads(self._line(seconds))["text"]
        return text

    def _line(self, seconds: float | None) -> bytes:
        """Return the next line of output; raise what the program's state says if none comes."""
        begin = time.monotonic()
        searched = 0
        while (end := self._output.find(b"\n", searched)) < 0:
            searched = len(self._output)
            if not self._read():
                self._require_alive()
                if seconds and time.monotonic() - begin > seconds:
                    raise TooSlow(f"took more than {seconds:.0f} s")
        line = bytes(self._output[:end])
        del self._output[: end + 1]
        return line

    def _read(self) -> bool:
        """Take what the program has written; return whether it was text."""
        for key, _ in self._selector.select(LOOK_EVERY_SECONDS):
            data = os.read(key.fd, 1 << 20)
            if not data:
                self._selector.unregister(key.fileobj)
            elif key.data == "stderr":
                self._errors = (self._errors + data)[-10_000:]
            else:
                self._output += data
                return True
        return False

    def _require_alive(self) -> None:
        """Raise PageError if one of the program's processes has failed, Failure if killed."""
        assert self._program is not None
        assert self._program.stderr is not None
        with contextlib.suppress(psutil.Error):
            children = psutil.Process(self._program.pid).children()
            if self._program.poll() is None and not any(map(is_dead, children)):
                return
        code = self._kill()
        lines = (self._errors + self._program.stderr.read()).decode(errors="replace").split("\n")
        said = next(filter(str.strip, reversed(lines)), f"exit code {code}")
        if code >= 0 or "Traceback (most recent call last):" in lines:
            raise PageError(said)
        raise Failure(
            "a process of WikiExtractor was killed, as it happens where memory runs out (or "
            "/dev/shm, with --expand-templates); give the job more memory or fewer --processes"
        )

    def _kill(self) -> int:
        """End the program with its workers; return its exit code, below 0 if it still ran."""
        assert self._program is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._program.pid, signal.SIGKILL)
        return self._program.wait()

    def close(self) -> None:
        """End the program, if it runs."""
        if self._program is None:
            return
        self._kill()
        self._watch.kill()
        self._watch.wait()
        self._selector.close()
        for pipe in (self._program.stdin, self._program.stdout, self._program.stderr):
            with contextlib.suppress(BrokenPipeError):
                assert pipe is not None
                pipe.close()
        assert self._watch.stdin is not None
        self._watch.stdin.close()
        self._program = None


def is_dead(process: psutil.Process) -> bool:
    """Return whether a process has ended and waits for its parent to notice."""
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True

"""A local stand-in of the hosts that the workflow fetches from, over real HTTP.

It serves a folder: dumps under ``<wiki>/<date>/``, raw files under ``<owner>/<repository>/<ref>/``,
and a hub, whose data sets are in ``hub/datasets/<owner>/<name>/<revision, "/" written "%2F">/``.
"""

import hashlib
import http.server
import json
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

HTML = b"<!DOCTYPE html>\n<html><body>Please log in to this network.</body></html>\n"


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files; whether it knows Range and where it cuts is the server's choice."""

    def log_message(self, *args):
        self.server.asked.append((self.path, self.headers.get("Range")))

    def do_HEAD(self):
        self.do_GET(head=True)

    def do_GET(self, head=False):
        path, headers = Path(self.translate_path(self.path)), {}
        if self.server.html:
            self.answer(HTML, {"Content-Type": "text/html"}, head)
            return
        if found := re.match(r"/api/(models|datasets)/([^/]+/[^/]+)(/.*)?$", self.address()):
            self.describe(*found.groups(default=""), head)
            return
        if found := re.match(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)$", self.address()):
            kind, name, revision, file = found.groups(default="")
            folder = self.server.revision(kind.strip("/") or "models", name, revision)
            path = folder / unquote(file) if folder else Path("nowhere")
            if folder:
                headers = {"X-Repo-Commit": commit_of(folder)}
            if path.is_file():
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
                headers["ETag"] = f'"{digest}"'
            else:
                headers["X-Error-Code"] = "EntryNotFound" if folder else "RepoNotFound"
        if path.is_file():
            self.answer(path.read_bytes(), headers, head, cut=self.server.cut)
        elif head or headers or not path.is_dir():
            self.answer(b"", headers, head, status=404)
        else:
            super().do_GET()

    def address(self):
        return urlsplit(self.path).path

    def describe(self, kind, name, rest, head):
        """Answer a question of the hub's API: a repository, or the files in it."""
        found = re.match(r"/(revision|tree)/([^/]+)", rest)
        folder = self.server.revision(kind, name, found[2] if found else "main")
        if folder is None:
            known = self.server.folder.joinpath("hub", kind, name).is_dir()
            code = "RevisionNotFound" if known else "RepoNotFound"
            self.answer(b"{}", {"X-Error-Code": code}, head, status=404)
            return
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        names = [path.relative_to(folder).as_posix() for path in files]
        names[:1] = [self.server.instead_of_the_first or names[0]]
        if found and found[1] == "tree":
            sizes = [path.stat().st_size for path in files]
            body = [
                {"type": "file", "path": name, "size": size, "oid": "0" * 40}
                for name, size in zip(names, sizes, strict=True)
            ]
        else:
            siblings = [{"rfilename": name} for name in names]
            body = {"id": name, "sha": commit_of(folder), "siblings": siblings, "tags": []}
            body |= {"private": False, "downloads": 0, "likes": 0}
        self.answer(json.dumps(body).encode(), {"Content-Type": "application/json"}, head)

    def answer(self, content, headers, head, status=200, cut=0):
        begin = 0
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if self.server.knows_range and asked and status == 200:
            begin = int(asked[1])
        if begin and begin >= len(content):
            self.send_response(416)
            headers = headers | {"Content-Range": f"bytes */{len(content)}"}
            content = b""
        else:
            self.send_response(206 if begin else status)
            if begin:
                ends = f"{begin}-{len(content) - 1}/{len(content)}"
                headers = headers | {"Content-Range": f"bytes {ends}"}
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content) - begin))
        self.end_headers()
        body = content[begin:]
        if cut and not self.path.endswith("sums.txt"):
            body = body[:cut]
            self.close_connection = True
        if not head:
            self.wfile.write(body)


class Local(http.server.ThreadingHTTPServer):
    """A server of this machine that answers while a block runs: ``with server: … server.root``."""

    def __init__(self, handler: Callable[..., Any]):
        super().__init__(("127.0.0.1", 0), handler)
        self.root = f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *error):
        self.shutdown()
        self.server_close()


class Hosts(Local):
    """The server: ``with Hosts(folder) as hosts: ... hosts.root``.

    ``cut`` is where it drops a file's connection (0: nowhere), ``html`` whether it answers
    everything with a page, ``instead_of_the_first`` the name of another file that it lists, and
    ``asked`` what it was asked: (path, Range).
    """

    def __init__(self, folder: Path):
        self.asked: list[tuple[str, str | None]] = []
        self.cut, self.knows_range, self.html = 0, True, False
        self.instead_of_the_first = ""
        self.folder = Path(folder)
        super().__init__(lambda *a: Handler(*a, directory=str(folder)))

    def revision(self, kind: str, name: str, revision: str) -> Path | None:
        """Return the folder of a revision, which is a name or the commit that stands for it."""
        folders = self.folder.joinpath("hub", kind, name)
        for folder in sorted(folders.iterdir()) if folders.is_dir() else ():
            if quote(unquote(revision), safe="") in (folder.name, commit_of(folder)):
                return folder
        return None


def commit_of(folder: Path) -> str:
    """Return the commit of a revision: it changes with the files' names and contents."""
    digest = hashlib.sha1(folder.name.encode())
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return digest.hexdigest()

"""A local stand-in of what a hub does when a model is put on it, over real HTTP.

It makes repositories, takes small files in the commit and large ones as LFS objects, and keeps
them as they came, with every request: method, path, and whether the token was right.
"""

import base64
import http.server
import json
import re
from urllib.parse import urlsplit

from hosts import Local

TOKEN = "hf_" + "x" * 34


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, body, status=200, **headers):
        content = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def take(self):
        """Return path and body of a request, and note it."""
        path = urlsplit(self.path).path
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append((self.command, path))
        return path, body

    def do_POST(self):
        path, body = self.take()
        server = self.server
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.answer(
                {"error": "Invalid credentials"}, 401, X_Error_Message="Invalid credentials"
            )
        elif path == "/api/validate-yaml":
            wrong = [] if "license:" in json.loads(body)["content"] else [{"message": "no license"}]
            self.answer({"errors": wrong, "warnings": []}, 400 if wrong else 200)
        elif path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            if asked["organization"] == "somebody-else":
                self.answer({"error": "Forbidden"}, 403)
            elif name in server.repositories:
                self.answer({"error": "You already created this model repo"}, 409)
            else:
                server.repositories[name] = {}
                server.visibility[name] = asked.get("visibility")
                self.answer({"url": f"{server.root}/{name}"})
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/main", path):
            self.of_repository(found[1], found[2], body)
        elif path.endswith("/info/lfs/objects/batch"):
            objects = [
                each | {"actions": {"upload": {"href": f"{server.root}/lfs/{each['oid']}"}}}
                for each in json.loads(body)["objects"]
            ]
            self.answer({"objects": objects, "transfer": "basic"})
        else:
            self.answer({}, 404)

    def of_repository(self, name, what, body):
        server = self.server
        if name not in server.repositories:
            self.answer({}, 404, X_Error_Code="RepoNotFound")
            return
        if what == "preupload":
            files = [
                {"path": each["path"], "shouldIgnore": False}
                | {"uploadMode": "lfs" if each["size"] > server.largest else "regular"}
                for each in json.loads(body)["files"]
            ]
            self.answer({"files": files})
            return
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                server.repositories[name][value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                server.repositories[name][value["path"]] = server.objects[value["oid"]]
        self.answer({"commitUrl": f"{server.root}/{name}/commit/1", "commitOid": "1" * 40})

    def do_PUT(self):
        path, body = self.take()
        self.server.objects[path.rpartition("/")[2]] = body
        self.answer({})


class Hub(Local):
    """The server: ``with Hub() as hub: ... hub.root``; files larger than ``largest`` go as LFS."""

    def __init__(self):
        self.asked: list[tuple[str, str]] = []
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.visibility: dict[str, str | None] = {}
        self.objects: dict[str, bytes] = {}
        self.largest = 10_000
        super().__init__(Handler)

"""A Hugging Face hub on this machine: serves directories as repositories, and fails on demand."""

import hashlib
import json
import os
import re
import socket
import struct
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from locations import ROOT

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def commit_of(revision: str) -> str:
    """Return the commit of a revision by its name; of the main branch, ``""``, it is ``COMMIT``."""
    return hashlib.sha1(revision.encode()).hexdigest() if revision else COMMIT  # noqa: S324


class HubStandIn(ThreadingHTTPServer):
    """Serves what huggingface_hub asks for: the model's commit, its list of files, and the files.

    Attributes:
        repositories: From a repository's id to the directory that it serves; from id@revision to another one.
        renamed: From a repository's former id to the present one, which requests are redirected to.
        refused: From ids of repositories whose files are refused to the status, and the hub's code for the reason.
        break_offs: From a file's path in its repository to how many downloads of it break off half-way.
        requests: The paths asked for so far.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, Path] = {}
        self.renamed: dict[str, str] = {}
        self.refused: dict[str, tuple[int, str]] = {}
        self.break_offs: dict[str, int] = {}
        self.requests: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def downloads(self) -> set[str]:
        """Return the paths, within their repositories, of the files asked for so far."""
        return {match[1] for path in self.requests if (match := re.search("/resolve/[0-9a-f]{40}/(.*)", path))}

    def revision(self, repository: str, revision: str) -> tuple[Path, str] | None:
        """Return the directory and the commit of a revision, which is named by itself or by its commit."""
        for name, directory in self.repositories.items():
            known_id, _, known = name.partition("@")
            commit = commit_of(known)
            if known_id == repository and revision in (known or "main", commit):
                return directory, commit
        return None

    def handle_error(self, request: object, client_address: object) -> None:
        """Stay silent: a client that hangs up is no news here."""


class _Handler(BaseHTTPRequestHandler):
    server: HubStandIn
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        _, _, path, query, _ = urlsplit(self.path)
        for former, present in self.server.renamed.items():
            if f"/{former}/" in f"{path}/":
                self._send(307, b"", {"Location": self.path.replace(former, present, 1)})
                return
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?", path):
            revision = unquote(match[3] or "main")
            self._describe(match[1], revision, is_tree=match[2] == "tree", with_sizes="blobs=" in query)
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._send_file(match[1], unquote(match[2]), match[3])
        else:
            self._refuse(404, "EntryNotFound")

    do_HEAD = do_GET  # noqa: N815 - the name that http.server calls

    def log_message(self, *_: object) -> None:
        """Stay silent."""

    def _describe(self, repository: str, revision: str, *, is_tree: bool, with_sizes: bool) -> None:
        found = self.server.revision(repository, revision)
        if found is None:
            is_known = self.server.revision(repository, "main") is not None
            self._refuse(*((404, "RevisionNotFound") if is_known else (401, "RepoNotFound")))
            return
        root, commit = found
        files = sorted(path for path in root.rglob("*") if path.is_file())
        names = [path.relative_to(root).as_posix() for path in files]
        tree = [
            {"type": "file", "path": name, "size": path.stat().st_size, "oid": hashlib.sha1(name.encode()).hexdigest()}  # noqa: S324
            for name, path in zip(names, files, strict=True)
        ]
        siblings = [{"rfilename": file["path"]} | ({"size": file["size"]} if with_sizes else {}) for file in tree]
        info = {"id": repository, "sha": commit, "siblings": siblings}
        self._send(200, json.dumps(tree if is_tree else info).encode(), {"Content-Type": "application/json"})

    def _send_file(self, repository: str, revision: str, name: str) -> None:
        if repository in self.server.refused:
            self._refuse(*self.server.refused[repository])
            return
        found = self.server.revision(repository, revision)
        if found is None or not (file := found[0] / name).is_file():
            self._refuse(404, "EntryNotFound")
            return
        content = file.read_bytes()
        headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": found[1]}
        status = 200
        if match := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            status, start = 206, int(match[1])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            content = content[start:]
        breaks_off = self.command == "GET" and self.server.break_offs.get(name, 0) > 0
        if breaks_off:
            self.server.break_offs[name] -= 1
        self._send(status, content, headers, breaks_off=breaks_off)

    def _refuse(self, status: int, code: str) -> None:
        self._send(status, b"{}", {"X-Error-Code": code})

    def _send(self, status: int, body: bytes, headers: dict[str, str], *, breaks_off: bool = False) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(body[: len(body) // 2] if breaks_off else body)
        if breaks_off:  # a reset, which huggingface_hub does not retry, rather than an early end, which it waits after
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True


@contextmanager
def running_hub() -> Iterator[HubStandIn]:
    """Run a hub in a thread of this process until the block ends."""
    hub = HubStandIn()
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()


def run_against(url: str, home: Path, code: str, **environment: str) -> str:
    """Run Python code in a process with the hub at ``url`` and its caches in ``home``; return what it prints."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "PILLOW_SDC_"))}
    settings = {
        "HF_ENDPOINT": url,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "127.0.0.1",
        "PYTHONPATH": str(ROOT),
        "PYTHONIOENCODING": "utf-8",
    }
    process = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**kept, **settings, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout

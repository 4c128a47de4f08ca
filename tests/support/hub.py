"""A Hub on loopback: the endpoints that `huggingface_hub` asks for the files of a data set or of a model."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pyarrow
import pyarrow.parquet

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Serves the files of a folder as the converted files of one data set; other names are unknown, or gated."""

    def __init__(self, folder: Path, dataset: str, *, handler: "type[_Handler] | None" = None) -> None:
        self.folder, self.dataset = folder, dataset
        self.asked: list[str] = []
        handler = type("Handler", (handler or _Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def files(self) -> dict[str, bytes]:
        found = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return {path.relative_to(self.folder).as_posix(): path.read_bytes() for path in found}


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *_: object) -> None:
        self.hub.asked.append(f"{self.command} {self.path}")

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        name = self.hub.dataset
        if "/gated" in path:
            return self._answer(403, b"{}", {"X-Error-Code": "GatedRepo", "X-Error-Message": "Ask first."})
        if path in {f"/api/datasets/{name}/revision/{rev}" for rev in ("refs/convert/parquet", COMMIT)}:
            siblings = [{"rfilename": file} for file in self.hub.files()]
            return self._json({"id": name, "sha": COMMIT, "siblings": siblings})
        if path.startswith(f"/api/datasets/{name}/revision/"):
            return self._answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        if path == f"/api/datasets/{name}/tree/{COMMIT}":
            return self._json(
                [
                    {"type": "file", "path": file, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                    for file, data in self.hub.files().items()
                ]
            )
        data = self.hub.files().get(path.removeprefix(f"/datasets/{name}/resolve/{COMMIT}/"))
        if data is None:
            return self._answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        return self._answer(200, data, {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": COMMIT})

    def _json(self, value: object) -> None:
        self._answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


def model_hub(folder: Path, name: str) -> Hub:
    """A Hub that serves the files of a folder as a model, at the revisions `main` and `v2`."""
    return Hub(folder, name, handler=_ModelHandler)


class _ModelHandler(_Handler):
    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        name = self.hub.dataset
        revisions = ("main", "v2", COMMIT)
        if path in {f"/api/models/{name}", *(f"/api/models/{name}/revision/{revision}" for revision in revisions)}:
            return self._json({"id": name, "sha": COMMIT, "siblings": []})
        if path.startswith(f"/api/models/{name}/revision/"):
            return self._answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        for revision in revisions:
            if path == (at := f"/api/models/{name}/tree/{revision}") or path.startswith(f"{at}/"):
                return self._tree(path.removeprefix(at).strip("/"))
            if path.startswith(at := f"/{name}/resolve/{revision}/"):
                return self._file(path.removeprefix(at))
        return self._answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def _tree(self, folder: str) -> None:
        files = {Path(file): data for file, data in self.hub.files().items()}
        found = [
            {"type": "file", "path": file.as_posix(), "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
            for file, data in files.items()
            if file.parent == Path(folder)
        ]
        if not found:
            return self._answer(404, b"{}", {"X-Error-Code": "EntryNotFound"})
        return self._json(found)

    def _file(self, name: str) -> None:
        data = self.hub.files()[name]
        first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        part = data[int(first) : int(last) + 1 if last else None]
        return self._answer(206, part, {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": COMMIT})


def write_class_parquet(path: Path, rows: list[dict[str, object]], names: list[str]) -> Path:
    """A Parquet file as `datasets` writes one, with the names of its labels in its metadata."""
    path.parent.mkdir(parents=True, exist_ok=True)
    features = {"label": {"names": names, "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows).replace_schema_metadata(metadata), path)
    return path

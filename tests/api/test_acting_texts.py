"""Text that acts: nothing that a tenant writes moves the cursor, the title or the reading direction of its reader."""

import io
import json
import logging
import sys
from collections.abc import Callable, Mapping

import httpx2
import pytest
import structlog
from support.adapters import edited, make_adapter
from support.server import RunningServer
from support.tenancy import ADMIN_KEY, Keyring, bearer

from adapters.files import CARD, CONFIG, MANIFEST, to_files
from adapters.printable import is_printable, json_visible, visible
from backbone import Backbone
from service.telemetry.logging import configure_logging

ACTING = {
    "colour": "\x1b[31mred",
    "title": "\x1b]0;title\x07",
    "one-byte sequence": "\x9b31mred",
    "return": "good\rbad",
    "backspace": "good\b\b\b\bbad",
    "override": "\u202egnp.exe",
    "isolate": "\u2067gnp.exe",
    "Arabic mark": "a\u061cb",
    "line separator": "a\u2028b",
    "tag": "a\U000e0041b",
    "null": "a\x00b",
}
ORDINARY = ("Größe, 感情, عاطفة", "👩‍💻 in one cell", "no-break\u00a0space", "soft\u00adhyphen")


@pytest.fixture(scope="module")
def server(serve_module: Callable[..., RunningServer]) -> RunningServer:
    server = serve_module(require_keys=True, admin_key=ADMIN_KEY)
    Keyring(server).tenant("acme")
    return server


@pytest.fixture(scope="module")
def admin(server: RunningServer) -> str:
    return Keyring(server).key("acme", "admin")


def upload(server: RunningServer, key: str, files: Mapping[str, bytes]) -> httpx2.Response:
    parts = [("files", (name, data)) for name, data in files.items()]
    return server.client.post("/tasks/texts/versions", files=parts, headers=bearer(key))


def places(files: dict[str, bytes], text: str) -> dict[str, dict[str, bytes]]:
    """An upload for each text that a publisher chooses; what acts is escaped, so that JSON may hold it."""
    manifest, config = MANIFEST, CONFIG
    return {
        "template": edited(files, manifest, lambda m: m["task"].update(template=f"{text} {{text}}")),
        "label": edited(files, manifest, lambda m: m["task"]["labels"][0].update(name=text)),
        "label words": edited(files, manifest, lambda m: m["task"]["labels"][0].update(words=text)),
        "method": edited(files, manifest, lambda m: m["provenance"].update(method=text)),
        "hyperparameter": edited(files, manifest, lambda m: m["provenance"].update(hyperparameters={"lr": text})),
        "name of a hyperparameter": edited(
            files,
            manifest,
            lambda m: m["provenance"].update(hyperparameters={text: 1}),
        ),
        "data": edited(files, manifest, lambda m: m["provenance"].update(data={"file": text})),
        "software": edited(files, manifest, lambda m: m["provenance"].update(software={"os": text})),
        "backbone": edited(files, manifest, lambda m: m["backbone"].update(revision=text)),
        "PEFT's configuration": edited(files, config, lambda c: c.update(auto_mapping=text)),
        "card": {**files, CARD: f"# card\n\n{text}\n".encode()},
    }


@pytest.mark.slow
@pytest.mark.parametrize("text", ACTING.values(), ids=ACTING)
def test_text_that_acts(text: str, server: RunningServer, admin: str, tiny: Backbone) -> None:
    files = to_files(make_adapter(tiny), card="# card\n")
    keys = "/admin/tenants/acme/keys"
    post, put = server.client.post, server.client.put
    answers = {name: upload(server, admin, changed) for name, changed in places(files, text).items()}
    answers |= {
        "note": post(keys, json={"note": text}, headers=bearer(admin)),
        "tenant": post("/admin/tenants", json={"id": text}, headers=bearer(ADMIN_KEY)),
        "alias": put("/tasks/texts/aliases/" + json.dumps(text), json={"version": 1}, headers=bearer(admin)),
        "alias of an upload": post(
            "/tasks/texts/versions",
            files=[("files", (name, data)) for name, data in files.items()],
            data={"alias": text},
            headers=bearer(admin),
        ),
    }
    for place, answer in answers.items():
        assert answer.status_code in {400, 404, 422}, f"{place}: {answer.status_code} {answer.text}"
        assert is_printable(answer.json()["detail"], lines=True), f"{place}: {answer.text}"
    assert server.client.get("/tasks", headers=bearer(admin)).json()["tasks"] == []
    assert text not in [key["note"] for key in server.client.get(keys, headers=bearer(admin)).json()["keys"]]


@pytest.mark.slow
def test_ordinary_text_of_any_language_is_taken(server: RunningServer, tiny: Backbone) -> None:
    Keyring(server).tenant("zeta")
    key = Keyring(server).key("zeta", "admin")
    for number, text in enumerate(ORDINARY):
        made = server.client.post("/admin/tenants/zeta/keys", json={"note": text}, headers=bearer(key))
        assert made.status_code == 201, made.text
        assert made.json()["note"] == text
        files = to_files(make_adapter(tiny, seed=number), card=f"# card\r\n\r\n\t{text}\r\n")
        changed = edited(files, MANIFEST, lambda m, text=text: m["provenance"].update(data={"file": text}))
        assert upload(server, key, changed).status_code == 201
        written = edited(files, MANIFEST, lambda m: m["task"].update(template="premise:\n\t{text}"))
        assert upload(server, key, written).status_code == 201


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_log_line_shows_what_a_stored_text_holds(log_format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", io.StringIO())
        configure_logging(log_format, "info")  # type: ignore[arg-type]
        for text in ACTING.values():
            structlog.get_logger("service").info("said", reason=text, **{"given": f"x {text}"})
            logging.getLogger("library").warning("said %s", text)
        written = sys.stderr.getvalue()  # type: ignore[attr-defined]
    configure_logging("json")
    logging.getLogger("service").setLevel(logging.WARNING)
    assert written.count("said") == 2 * len(ACTING)
    assert is_printable(written, lines=True)


@pytest.mark.parametrize("text", ACTING.values(), ids=ACTING)
def test_an_escape_stands_for_the_text(text: str) -> None:
    assert not is_printable(text)
    assert is_printable(visible(text))
    data = json.dumps({"text": text}, ensure_ascii=False)
    assert is_printable(json_visible(data))
    assert json.loads(json_visible(data)) == {"text": text}

"""Advice in messages, help and documents works: named commands, options, variables and targets exist, and were run."""

import ast
import os
import re
import shlex
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from support.adapters import make_adapter
from support.cli import CONSOLE_SCRIPT, TASK, Desk, superpos, superpos_process
from support.server import RunningServer
from support.training import easy_rows, write_rows

from adapters.files import to_files
from backbone import Backbone
from cli.main import COMMANDS, load_command
from cli.options import KEY_FILE
from service import memory
from service.settings import Settings

ROOT = Path(__file__).parents[3]
PACKAGES = ("cli", "sizing", "service", "training", "adapters", "backbone", "deploy")
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "examples").rglob("*.md"))]
Serve = Callable[..., RunningServer]


def commands() -> dict[str, Any]:
    """Every command by its words, such as `key create`."""
    found = {}
    for name in COMMANDS:
        command = load_command(name)
        found[name] = command
        for inner, each in getattr(command, "commands", {}).items():
            found[f"{name} {inner}"] = each
    return found


ALL = commands()
OPTIONS = {
    name: {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    | {"--help"}
    for name, command in ALL.items()
}
ANY_OPTION = set().union(*OPTIONS.values()) | {"--version", "--install-completion", "--show-completion"}
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
ELSEWHERE = {"--port", "--prometheus-port", "--quick"}
"""Options of `make platform` and of benchmarks, in messages of theirs."""


def texts() -> Iterator[tuple[str, str]]:
    """Yield every text that a user can read: string constants with spaces, and documents, each with its place."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                value = None
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    value = node.value
                elif isinstance(node, ast.JoinedStr):
                    value = "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
                if value is not None and (" " in value or value.startswith("SUPERPOS_")):
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", value
    for path in DOCUMENTS:
        yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")


TEXTS = list(texts())
_COMMAND = re.compile(r"(?:^|[`'\"($\s])superpos ((?:[a-z]+)(?:(?:[ \t]|\\\n)+[^\s`|;)#]+)*)", re.MULTILINE)
_NOT_A_COMMAND = ("superpos needs", "superpos is", "superpos command")


def named_commands() -> list[tuple[str, str]]:
    """Every command line in the texts, with its place."""
    found = []
    for where, text in TEXTS:
        for match in _COMMAND.finditer(text):
            line = re.sub(r"\\\n\s*", " ", match[1])
            if match[0][0] in "'\"":
                line = line.partition(match[0][0])[0]
            in_code = where.endswith(".md") or match[0][0] in "`'\"$" or "\b" in text
            if in_code:
                found.append((where, line))
    return found


def problems(line: str) -> list[str]:
    """What is wrong with a command line after `superpos`."""
    words = line.replace("'", " ").split()
    if words[0] not in ALL:
        return [f"no command {words[0]!r}"]
    name = " ".join(words[:2]) if " ".join(words[:2]) in ALL else words[0]
    group = getattr(ALL[name], "commands", None)
    wrong = []
    if group is not None and len(words) > 1 and re.fullmatch(r"[a-z]+", words[1]):
        wrong.append(f"{name!r} has no command {words[1]!r}")
    for word in words[1:]:
        option = re.match(r"--[a-z0-9][a-z0-9-]*", word)
        if option and group is None and option[0] not in OPTIONS[name]:
            wrong.append(f"{name!r} has no option {option[0]}")
    return wrong


def test_every_named_command_and_its_options_exist() -> None:
    lines = named_commands()
    assert len(lines) > 100
    assert [(where, line, wrong) for where, line in lines if (wrong := problems(line))] == []


def test_every_option_that_a_message_names_exists() -> None:
    found = []
    for where, text in TEXTS:
        if where.startswith(("deploy", "docs/benchmarks", "docs/decisions")) or where.endswith(".md"):
            continue
        for option in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", text):
            if option not in ANY_OPTION and option not in ELSEWHERE:
                found.append((where, option))
    assert found == []


def test_every_target_of_make_that_a_text_names_exists() -> None:
    words = {"sure", "it", "the", "a", "no", "an", "its", "one", "them", "up", "each", "this", "any", "more", "use"}
    found = []
    for where, text in TEXTS:
        for name in re.findall(r"(?:^|[`$(\"'])\s*make ([a-z][a-z-]*)", text, re.MULTILINE):
            if name not in TARGETS and name not in words:
                found.append((where, name))
    assert found == []


def test_every_variable_that_a_text_names_is_read() -> None:
    of_settings = {f"SUPERPOS_{name.upper()}" for name in Settings.model_fields}
    of_options = {
        variable
        for command in ALL.values()
        for parameter in command.params
        for variable in ([parameter.envvar] if isinstance(parameter.envvar, str) else parameter.envvar or [])
    }
    source = "\n".join(
        path.read_text(encoding="utf-8")
        for path in (ROOT / "deploy").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    )
    others = {KEY_FILE, "SUPERPOS_SECRETS_DIR", "SUPERPOS_DATA", "SUPERPOS_CONFORMANCE_RECORD"}
    known = of_settings | of_options | others
    found = []
    for where, text in TEXTS:
        for name in re.findall(r"SUPERPOS_[A-Z][A-Z_]*[A-Z](?![A-Z_<])", text):
            if name not in known and name not in source:
                found.append((where, name))
    assert found == []


@pytest.mark.parametrize("line", ["trane x.yaml", "train x.yaml --epoch 3", "key make acme", "push a b --form x"])
def test_a_wrong_command_would_be_found(line: str) -> None:
    assert problems(line)


# --- messages whose advice is followed here


@pytest.mark.slow
def test_a_taken_port_names_ways_to_choose_another_that_make_passes_on() -> None:
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        taken, other = (str(each.getsockname()[1]) for each in (first, second))
        refusal = superpos_process("serve", "--port", taken).refusal()
        assert refusal.endswith("choose another port with --port or SUPERPOS_PORT")
        done = subprocess.run(
            ["make", "--silent", "-o", "setup", "serve", f"SUPERPOS_PORT={other}"],
            cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert f"cannot listen on 127.0.0.1:{other}" in done.stderr


@pytest.mark.slow
def test_the_client_asks_where_the_environment_makes_the_server_listen(serve: Serve, tiny: Backbone) -> None:
    server = serve()
    server.upload("sentiment", make_adapter(tiny))
    port = str(urlsplit(server.url).port)
    for environment in ({}, {"SUPERPOS_HOST": "127.0.0.1"}, {"SUPERPOS_HOST": "localhost"}):
        for words in (["list"], ["classify", "sentiment", "a film"], ["usage"], ["history", "sentiment"]):
            answer = superpos(*words, SUPERPOS_PORT=port, **environment)
            assert answer.code == 0, answer.stderr
    assert "http://[::1]:9" in superpos("list", SUPERPOS_PORT="9", SUPERPOS_HOST="::1").refusal()
    assert "http://127.0.0.1:9" in superpos("list", SUPERPOS_PORT="9", SUPERPOS_SERVER="http://127.0.0.1:9").refusal()
    assert "SUPERPOS_PORT is 'many'" in superpos("list", SUPERPOS_PORT="many").refusal()


@pytest.mark.parametrize("source", ["./no-such-folder", "no/such/folder", "/nowhere", "..", "a folder"])
def test_a_backbone_that_is_not_there_is_spoken_of_as_what_it_is(source: str) -> None:
    refusal = superpos("backbone", "show", "--backbone", source, "--offline").refusal()
    assert refusal.startswith(f"cannot load {source!r}: ")
    assert "no such directory" in refusal or "no config.json" in refusal
    assert refusal.endswith(
        "expected 'embedded', a directory in the format of transformers, or a model id such as google/flan-t5-small"
    )
    assert "repo" not in refusal.lower()


def test_a_backbone_that_may_be_a_model_of_the_hub_is_spoken_of_as_both() -> None:
    refusal = superpos("backbone", "show", "--backbone", "no-such-folder", "--offline").refusal()
    assert "cannot load 'no-such-folder': it is not a directory here, and as a model id of the Hub: " in refusal
    assert "expected 'embedded', a directory" in refusal


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_an_adapter_that_int8_refuses_is_served_after_the_command_that_the_refusal_names(
    desk: Desk, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: 0)  # none for float32 weights
    server = serve(precision="int8")
    copy = dict(desk.adapter.manifest.provenance.metrics)
    copy.pop("int8_label_agreement", None)
    provenance = desk.adapter.manifest.provenance.model_copy(update={"metrics": copy})
    bare = type(desk.adapter)(desk.adapter.prompt, desk.adapter.manifest.model_copy(update={"provenance": provenance}))
    server.registry.publish("default", "topic", to_files(bare), actor="cli")
    assert server.client.get("/healthz/ready").is_success
    refusal = ""
    for _ in range(50):
        refusal = superpos("classify", "topic", "a film", "--server", server.url).refusal()
        if "404" not in refusal:
            break
    assert "(409 precision_not_validated)" in refusal
    command = re.search(r"'superpos (evaluate .*?)'", refusal)
    assert command is not None
    words = command[1].replace("<folder>", str(desk.run)).replace("<task>.yaml", str(desk.task)).split()
    assert superpos(*words, "--backbone", desk.tiny_t5).code == 0
    assert superpos("push", desk.run, "topic", "--to", server.url).code == 0
    assert superpos("classify", "topic", "a film", "--server", server.url).code == 0


@pytest.mark.slow
def test_the_command_that_resumes_is_accepted(tiny_t5: Path, tmp_path: Path) -> None:
    """After Ctrl-C the printed command resumes; so does what `push` says about a run without a result."""
    (tmp_path / "topic.yaml").write_text(TASK, encoding="utf-8")
    write_rows(tmp_path / "train.jsonl", easy_rows(60, seed=1))
    write_rows(tmp_path / "validation.jsonl", easy_rows(20, seed=2))
    began = [
        *(
            "train",
            "topic.yaml",
            "--backbone",
            str(tiny_t5),
            "--lr",
            "0.05",
            "--readout",
            "words",
            "--num-virtual-tokens",
            "4",
        ),
        *("--num-sampled-tokens", "16", "--threads", "1", "--plain", "--no-report"),
    ]

    def interrupted(*words: str, number: int = signal.SIGINT, after: str = "epoch   2") -> str:
        """Run a command, send it a signal after a line, and return what it printed on standard error."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SUPERPOS_")}
        command = [str(CONSOLE_SCRIPT), *words]
        with subprocess.Popen(
            command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, cwd=tmp_path, env=kept
        ) as process:
            printed = ""
            assert process.stderr is not None
            for line in process.stderr:
                printed += line
                if after in line:
                    process.send_signal(number)
                    after = "never"
        return printed

    printed = interrupted(*began, "--epochs", "5000")
    (resume,) = [line.strip() for line in printed.splitlines() if line.strip().startswith("superpos train")]
    assert "resumes after step" in interrupted(*shlex.split(resume)[1:], after="epoch")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        other = superpos(*began, "--epochs", "4", "--out", "runs/topic-superpos-seed0", "--resume").refusal()
        assert "arguments.epochs is 4 and was 5000; expected those that began it, or another folder with --out" in other
        assert superpos(*began, "--epochs", "1", "--out", "runs/another").code == 0

        interrupted(*began, "--epochs", "2", "--out", "runs/killed", number=signal.SIGKILL, after="untrained")
        refusal = superpos("push", "runs/killed", "topic", "--to", "r.sqlite").refusal()
        advice = re.search(r"repeat the command that began it with '(.*)'", refusal)
        assert advice is not None
        assert superpos(*began, "--epochs", "2", *advice[1].split()).code == 0
        assert superpos("push", "runs/killed", "topic", "--to", "r.sqlite").code == 0

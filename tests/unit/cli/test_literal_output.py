"""What users and servers supply is printed literally: no markup, no control sequence, nothing unprintable."""

import ast
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.table import Column, Table
from support.adapters import make_adapter
from support.cli import QUICK, Answer, Desk, superpos
from support.server import RunningServer
from support.training import easy_rows

import cli
from adapters import TaskSpec
from adapters.files import to_files
from adapters.printable import visible
from adapters.storage.opening import open_storage
from backbone import Backbone
from cli.console import LiteralConsole
from service.tenancy.accounts import open_accounts
from service.tenancy.models import AuditEntry, Edit

HOSTILE = {
    "closing tag": "[/]",
    "closing tag of a chat": "[/INST]",
    "style": "[bold red]x[/bold red]",
    "link": "[link=http://evil]x[/link]",
    "emoji code": ":warning:",
    "backslash": "\\[/]",
    "escape sequence": "\x1b[31mred",
    "title sequence": "\x1b]0;title\x07",
    "one-byte sequence": "\x9b31mred",
    "return": "good\rbad",
    "backspace": "good\b\b\b\bbad",
    "right to left": "\u202egnp.exe",
    "line separator": "a\u2028b",
    "lone surrogate": "a\ud800b",
    "byte that is not UTF-8": "a\udcffb",
}
UNSENDABLE = ("lone surrogate", "byte that is not UTF-8")
ALL = " ".join(HOSTILE.values())
FORBIDDEN = set("\x1b\x07\x08\x9b\r\u202e\u2028\ud800\udcff")


def holds(answer: Answer, text: str) -> None:
    """Check that a command succeeded and printed a text, and nothing that a terminal obeys."""
    printed = answer.stdout + answer.stderr
    assert "Traceback" not in printed
    assert not FORBIDDEN & set(printed)
    assert visible(text) in printed, printed


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_every_way_to_print_a_text_prints_it_literally(text: str, encoding: str) -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)
    console = LiteralConsole(file=file, width=200, soft_wrap=True)
    console.print(text)
    console.print(text, style="red")
    console.print(text, markup=True, emoji=True)
    console.out(text)
    table = Table("name", Column(text, footer=text), title=text, caption=text, show_footer=True)
    table.add_row("cell", text)
    console.print(table)
    with console.status(text) as shown:
        shown.update(console.render_str(text))
    file.seek(0)
    printed = file.read()
    assert printed.count(visible(text, encoding)) == 9
    assert not FORBIDDEN & set(printed.replace("\r\n", "\n"))
    file.truncate(0)
    file.seek(0)
    console.print_data({"text": text, "größe": 1})
    file.seek(0)
    printed = file.read().lstrip("\0")
    assert not FORBIDDEN & set(printed)
    assert json.loads(printed) == {"text": text, "größe": 1}


def test_only_the_console_module_writes_to_the_terminal() -> None:
    """A second way to print would be a second place to get this right."""
    package = Path(str(cli.__file__)).parent
    found = []
    for path in package.rglob("*.py"):
        if path == package / "console.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if name in ("print", "Console", "typer.echo", "typer.secho", "click.echo", "sys.stdout.write") or (
                name.endswith(("from_markup", "print_json"))
            ):
                found.append(f"{path.relative_to(package)}:{node.lineno}: {name}")
    assert found == []


# --- the commands, with a server


@pytest.fixture(scope="module")
def server(serve_module: Callable[..., RunningServer], tiny: Backbone) -> RunningServer:
    """Start a server with a task whose labels are hostile."""
    server = serve_module()
    labels = {"[/]": "negative", "[red]:warning:": "positive"}
    server.upload("hostile", make_adapter(tiny, TaskSpec(template="text: {text}", labels=labels, max_tokens=128)))
    return server


@pytest.mark.slow
def test_classify_prints_texts_and_labels(server: RunningServer) -> None:
    texts = [text for name, text in HOSTILE.items() if name not in UNSENDABLE]
    answer = superpos("classify", "hostile", *texts, "--server", server.url)
    assert answer.code == 0, answer.stderr
    for text in texts:
        holds(answer, text)
    assert "│ [/] " in answer.stdout or "│ [red]:warning: " in answer.stdout
    as_json = superpos("classify", "hostile", ALL, "plain", "--json", "--server", server.url)
    assert not FORBIDDEN & set(as_json.stdout + as_json.stderr)
    assert json.loads(as_json.stdout)["predictions"][0].keys() == {"refused"}
    refused = superpos("classify", "hostile", ALL, "plain", "--server", server.url)
    holds(refused, ALL)
    for words in (["classify", "[/]@\x1b[31m", "text"], ["classify", "hostile", "\ud800"]):
        refusal = superpos(*words, "--server", server.url).refusal()
        assert not FORBIDDEN & set(refusal)


def test_commands_about_tasks_print_what_a_registry_holds(server: RunningServer, tiny: Backbone) -> None:
    """The log's actors are free text; a server that is not ours could send anything."""
    actor = " ".join(text for name, text in HOSTILE.items() if name not in UNSENDABLE)
    (files,) = [to_files(make_adapter(tiny, seed=5))]
    server.registry.publish("default", "listed", files, actor=actor)
    for place in (server.settings.registry, server.url):
        for words in (["list"], ["history", "listed"]):
            answer = superpos(*words, "--from", place)
            assert answer.code == 0, answer.stderr
            if place == server.settings.registry:
                holds(answer, actor)
    for words in (["list", "--from"], ["history", "x", "--from"], ["push", ".", "x", "--to"]):
        place = "/nowhere/" + ALL.replace("/", "")
        assert not FORBIDDEN & set(superpos(*words, place).refusal())


def test_commands_about_tenants_and_keys_print_notes(server: RunningServer) -> None:
    """A note that was stored before notes had to be printable is shown with escapes."""
    note = "[/v2] [red] :warning: \x1b[31m\u202e"
    write_registry = superpos("tenant", "create", "acme", "--to", server.settings.registry)
    assert write_registry.code == 0, write_registry.stderr
    accounts = open_accounts(open_storage(server.settings.registry))
    info = accounts.create_key("acme", "classify", actor="test").info
    entry = AuditEntry(info.created_at, "test", "key_created", "acme", info.id)
    assert accounts.store.write(Edit(entry, keys=[replace(info, note=note)]), expected=accounts.store.revision())
    for source in (server.settings.registry, server.url):
        holds(superpos("key", "list", "acme", "--from", source), note)
        assert superpos("tenant", "list", "--from", source).code == 0
    for unprintable in (note, "\ud800"):
        refused = superpos("key", "create", "acme", "--note", unprintable, "--to", server.settings.registry)
        assert refused.code == 1
        assert not FORBIDDEN & set(refused.stdout + refused.stderr)
    for words in (["usage", "--server", server.url], ["usage", "--csv", "--server", server.url]):
        assert superpos(*words).code == 0
    assert "is not a character" in superpos("usage", "--tenant", ALL, "--server", server.url).refusal()


# --- the commands, with files


def test_data_check_and_task_init_print_rows_columns_and_names(tmp_path: Path, tiny_t5: Path) -> None:
    folder = tmp_path / "["  # a path of a file in it holds a closing tag
    folder.mkdir()
    texts = [text for name, text in HOSTILE.items() if name not in UNSENDABLE]
    rows = [{"[/INST]": text, "la[/]bel": f"[/]{number % 2}"} for number, text in enumerate([*texts, *texts, ""])]
    data = folder / "[red].jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    made = superpos(
        *("task", "init", data, "--backbone", tiny_t5, "--out", folder / "].yaml"),
        *("--label", "la[/]bel", "--name", "hostile"),
    )
    holds(made, "[/]0")
    holds(made, str(folder / "].yaml"))
    checked = superpos("data", "check", folder / "].yaml", "--backbone", tiny_t5)
    holds(checked, "[red].jsonl")
    holds(checked, "'[/]1'")
    holds(checked, "'inst: [bold red]x[/bold red]'")


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_training_evaluation_and_reports_print_names_of_files_and_labels(desk: Desk, tmp_path: Path) -> None:
    folder = tmp_path / "["
    folder.mkdir()
    for name, count in (("]train.jsonl", 40), ("]validation.jsonl", 20)):
        rows = easy_rows(count, seed=count)
        lines = [json.dumps({"text": row["text"] * 5, "label": f"[/{row['label']}]"}) for row in rows]
        (folder / name).write_text("\n".join(lines), encoding="utf-8")
    task = folder / "].yaml"
    task.write_text(
        'name: topic\ndescription: "[/]"\ntemplate: "text: {text}"\n'
        'labels: {"[/sports]": sports, "[/business]": business}\nmax_tokens: 16\n'
        'data: {train: "]train.jsonl", validation: "]validation.jsonl"}\n',
        encoding="utf-8",
    )
    run = folder / "]run"
    trained = superpos("train", task, "--backbone", desk.tiny_t5, "--out", run, *QUICK[2:], "--epochs", "1")
    assert trained.code == 0, trained.stderr
    holds(trained, f"{run}: ")  # the warning about truncated rows
    holds(trained, f"{run / 'adapter'} ")
    scored = superpos("evaluate", run, task, "--backbone", desk.tiny_t5)
    holds(scored, "topic: ]validation.jsonl")
    page = superpos("report", run, "--out", folder / "].html")
    holds(page, str(folder / "].html"))
    exported = superpos("push", run, "topic", "--to", folder / "].sqlite")
    assert exported.code == 0
    holds(superpos("registry", "copy", folder / "].sqlite", folder / "]backup"), str(folder / "]backup"))
    holds(superpos("export", "topic", folder / "]out", "--from", folder / "].sqlite"), str(folder / "]out"))

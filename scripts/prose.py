"""Prose check: reports banned phrases in documents, docstrings, comments, help texts and messages. Rules: `prose.toml`.

python -m scripts.prose                      # everything; fails above the accepted number of findings
python -m scripts.prose service/engine       # one package; fails on any finding
"""

import ast
import io
import re
import tokenize
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

ROOT = Path(__file__).parents[1]
RULES = Path(__file__).with_suffix(".toml")
HELP_KEYWORDS = ("help", "description", "summary", "epilog", "short_help")
PATTERNS = ("*.md", "*.py", "*.yaml", "*.yml", "*.conf", "Caddyfile")
MIN_WORDS = 3
"""A string literal of fewer words is data, not text."""
LOG_METHODS = ("debug", "info", "warning", "error", "exception", "critical")
CODE_SPAN = re.compile(r"``.+?``|`[^`]+`|\]\([^)]*\)|https?://\S+", flags=re.DOTALL)

Kind = str
"""Origin of a passage: `document`, `docstring`, `comment`, `message` (help, errors, logs) or `string` (other texts)."""


@dataclass(frozen=True, slots=True)
class Passage:
    """Text for people, with the line that it starts on."""

    line: int
    text: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Rule:
    """One banned phrase: a pattern, what to write instead, and the phrases in which it is correct."""

    pattern: re.Pattern[str]
    instead: str
    allow: re.Pattern[str] | None = None
    kinds: tuple[Kind, ...] = field(default=("document", "docstring", "comment", "message", "string"))

    def matches(self, passage: Passage) -> Iterator[re.Match[str]]:
        """Yield the matches outside allowed phrases."""
        if passage.kind not in self.kinds:
            return
        allowed = [found.span() for found in self.allow.finditer(passage.text)] if self.allow else []
        for found in self.pattern.finditer(passage.text):
            if not any(start <= found.start() and found.end() <= end for start, end in allowed):
                yield found


@dataclass(frozen=True, slots=True)
class Finding:
    """A banned phrase in a file."""

    path: Path
    line: int
    phrase: str
    instead: str
    context: str = field(compare=False)

    def __str__(self) -> str:
        """Return the line to print."""
        return f"{self.path}:{self.line}: '{self.phrase}' — use {self.instead}"


def flexible(phrase: str, *, ignore_case: bool = True) -> re.Pattern[str]:
    """Compile a pattern in which a space matches any whitespace, line breaks with comment marks included."""
    return re.compile(phrase.replace(" ", r"[\s#]+"), flags=re.IGNORECASE if ignore_case else 0)


def read_rules(path: Path = RULES) -> list[Rule]:
    """Read the rules of `prose.toml`."""
    rules = []
    for entry in tomllib.loads(path.read_text(encoding="utf-8"))["rule"]:
        cased = not entry.get("case", False)
        allow = entry.get("allow")
        kinds = {"kinds": tuple(entry["kinds"])} if "kinds" in entry else {}
        rules.append(
            Rule(
                pattern=flexible(entry["pattern"], ignore_case=cased),
                instead=entry["instead"],
                allow=flexible("|".join(allow)) if allow else None,
                **kinds,
            )
        )
    return rules


def without_code(text: str) -> str:
    """Replace code spans and link targets by as many line breaks as they hold, so that line numbers stay right."""
    return CODE_SPAN.sub(lambda found: "§" + "\n" * found[0].count("\n"), text)


def document_passages(text: str) -> Iterator[Passage]:
    """Yield the paragraphs of a Markdown document, without its fenced code."""
    fenced, start, lines = False, 1, list[str]()
    for number, line in enumerate(text.splitlines(), start=1):
        fence = line.lstrip().startswith(("```", "~~~"))
        if not line.strip() or fence or fenced:
            if lines:
                yield Passage(start, "\n".join(lines), "document")
            lines = []
            fenced ^= fence
        else:
            start = start if lines else number
            lines.append(line)
    if lines:
        yield Passage(start, "\n".join(lines), "document")


def comment_passages(source: str) -> Iterator[Passage]:
    """Yield comments; comments on consecutive lines are one passage."""
    start, lines = 0, list[str]()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and not re.match(r"#\s*(noqa|type:|pragma|!)", token.string):
            if lines and token.start[0] != start + len(lines):
                yield Passage(start, "\n".join(lines), "comment")
                lines = []
            start = start if lines else token.start[0]
            lines.append(token.string)
    if lines:
        yield Passage(start, "\n".join(lines), "comment")


def line_comment_passages(text: str) -> Iterator[Passage]:
    """Yield comments on lines of their own in YAML and other configuration."""
    for found in re.finditer(r"(?m)(?:^[ \t]*#.*\n?)+", text):
        yield Passage(text[: found.start()].count("\n") + 1, found[0], "comment")


def literal(node: ast.AST) -> str:
    """Return the text of a string or f-string, with `{}` for each replacement field."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(literal(part) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    return ""


def python_passages(source: str) -> Iterator[Passage]:
    """Yield docstrings (of attributes too), comments, help texts, messages of errors and logs, and other texts."""
    yield from comment_passages(source)
    tree = ast.parse(source)
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and literal(node.value):
            yield Passage(node.lineno, literal(node.value), "docstring")
        elif isinstance(node, ast.keyword) and node.arg in HELP_KEYWORDS:
            yield Passage(node.value.lineno, literal(node.value), "message")
        elif isinstance(node, ast.Raise) and node.exc is not None:
            for part in ast.walk(node.exc):
                if isinstance(part, ast.JoinedStr | ast.Constant):
                    yield Passage(part.lineno, literal(part), "message")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LOG_METHODS:
            for argument in node.args[:1]:
                yield Passage(argument.lineno, literal(argument), "message")
        elif id(node) not in docstrings and len(literal(node).split()) >= MIN_WORDS:
            yield Passage(node.lineno, literal(node), "string")  # type: ignore[attr-defined]


READERS = {".md": document_passages, ".py": python_passages}
"""Function that reads a file, by suffix; of other files the comments are read."""


def check_file(path: Path, rules: list[Rule]) -> list[Finding]:
    """Return the findings of one file, each once, in the order of its lines."""
    text = path.read_text(encoding="utf-8")
    shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    findings = set()
    read = READERS.get(path.suffix, line_comment_passages)
    for passage in read(text):
        stripped = Passage(passage.line, without_code(passage.text), passage.kind)
        for rule in rules:
            for found in rule.matches(stripped):
                line = stripped.line + stripped.text[: found.start()].count("\n")
                context = " ".join(stripped.text[max(0, found.start() - 60) : found.end() + 60].split())
                findings.add(Finding(shown, line, " ".join(found[0].split()), rule.instead, context))
    return sorted(findings, key=lambda finding: (finding.line, finding.phrase))


def files_below(paths: list[Path]) -> list[Path]:
    """Return the files to check of these paths, without hidden folders."""
    found = []
    for path in paths:
        inside = [path] if path.is_file() else [file for pattern in PATTERNS for file in path.rglob(pattern)]
        found += [file for file in inside if not any(part.startswith(".") for part in file.relative_to(path).parts)]
    return sorted(set(found))


def main(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Files and folders (default: those of prose.toml).")
    ] = None,
    maximum: Annotated[
        int | None, typer.Option("--max", help="Accepted number of findings (default: prose.toml; 0 for named paths).")
    ] = None,
    fix_hints: Annotated[
        bool, typer.Option("--fix-hints", help="Print each finding with the words around it.")
    ] = False,
) -> None:
    """Report banned phrases; exit with status 1 where there are more than accepted."""
    settings = tomllib.loads(RULES.read_text(encoding="utf-8"))
    limit = maximum if maximum is not None else 0 if paths else settings["max"]
    rules = read_rules()
    findings = [
        finding
        for file in files_below(paths or [ROOT / name for name in settings["paths"]])
        for finding in check_file(file, rules)
    ]
    for finding in findings:
        print(finding)
        if fix_hints:
            print(f"    … {finding.context} …")
    parents = Counter("/".join(finding.path.parts[:2][: len(finding.path.parts) - 1]) or "." for finding in findings)
    print(
        f"{len(findings)} findings, {limit} accepted",
        *(f"{room} {count}" for room, count in parents.most_common()),
        sep="\n  ",
    )
    raise typer.Exit(int(len(findings) > limit))


if __name__ == "__main__":
    typer.run(main)

"""Markdown of strangers as safe HTML: their own HTML is shown as text, and nothing is loaded from elsewhere."""

from markdown_it import MarkdownIt
from markupsafe import Markup

MAX_CHARS = 16_000
"""A longer text is not rendered: hostile Markdown takes a time that grows with the square of its length."""
_TOP_HEADING = 3
"""Level of a document's first heading, below those of the page."""


def rendered(text: str) -> Markup | None:
    """Return a text as HTML; None if it is too long. Callable from any thread."""
    if len(text) > MAX_CHARS:
        return None
    parser = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
    tokens = parser.parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1:]) + _TOP_HEADING - 1)}"
        for each in token.children or ():
            if each.type == "link_open":
                each.attrSet("rel", "noopener noreferrer nofollow")
    return Markup(parser.renderer.render(tokens, parser.options, {}))  # noqa: S704 - the parser escapes

"""Cards of strangers as HTML: what Markdown means is kept, and what acts in a browser is text."""

import pytest

from service.console.markdown import MAX_CHARS, rendered


def test_headings_lists_code_and_tables_are_rendered_below_the_headings_of_the_page() -> None:
    html = rendered("# A card\n\n- one\n\n| a | b |\n|---|---|\n| 1 | `2` |\n\n##### deep\n")
    assert html is not None
    for part in ("<h3>A card</h3>", "<li>one</li>", "<td>1</td>", "<code>2</code>", "<h6>deep</h6>"):
        assert part in html


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "a <img src=x onerror=alert(1)> b",
        "<style>*{display:none}</style>",
        "![x](https://example.org/pixel.png)",
        "[x](javascript:alert(1))",
        "[x](data:text/html,<script>alert(1)</script>)",
        "[x](vbscript:a)",
        "[a](<javascript:alert(1)>)",
        "<javascript:alert(1)>",
        '[x](https://example.org "onmouseover=\\"alert(1)")',
        '``` x" onclick="y\ncode\n```',
    ],
)
def test_what_acts_in_a_browser_is_text(text: str) -> None:
    html = str(rendered(text))
    assert "<script" not in html
    assert "<img" not in html
    assert "<style" not in html
    assert 'href="javascript' not in html
    assert 'href="data' not in html
    assert 'href="vbscript' not in html
    assert '" onclick' not in html
    assert '" onmouseover' not in html


def test_links_tell_nothing_to_where_they_lead() -> None:
    assert 'rel="noopener noreferrer nofollow"' in str(rendered("[a](https://example.org/)"))


def test_a_text_that_is_too_long_is_not_rendered() -> None:
    assert rendered("a" * MAX_CHARS) is not None
    assert rendered("a" * (MAX_CHARS + 1)) is None

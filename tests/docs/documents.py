"""The pages of the documentation as blocks of code, for the tests that execute them.

A page may tell the tests something about a block, in a comment that a reader does not see:

<!-- file: swap.yaml -->                        it is the content of this file
<!-- file: a.yaml, run by tests/test_b.py -->   likewise, and that module alone tests it
<!-- not run: why -->                           it is read, but not executed
"""

import re
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "recipes/README.md", *sorted((ROOT / "docs").glob("*.md"))]

_COMMENT = re.compile(r"<!-- (file|not run): (.+?)(?:, run by (tests/[\w/]+\.py))? -->\s*")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        page: the file that it stands in.
        line: its first line of code there, counted from 1.
        language: what the fence says; empty if nothing.
        text: its content.
        file: the name of the file that it is the content of; empty: of none.
        not_run: why it is not executed; empty: it is.
        tested_by: the module that tests it, in place of ``test_docs.py``; empty: none.
        is_output: whether it follows directly on a Python block, whose output it then is.
    """

    page: Path
    line: int
    language: str
    text: str
    file: str
    not_run: str
    tested_by: str
    is_output: bool

    @property
    def where(self) -> str:
        """Page and line, for messages."""
        return f"{self.page.relative_to(ROOT)}, line {self.line}"


def blocks_of(page: Path) -> list[Block]:
    """Return the fenced blocks of a page, in order."""
    found: list[Block] = []
    comment = ("", "", "")
    last_was_python = False
    for token in MarkdownIt("commonmark").parse(page.read_text("utf-8")):
        if token.type == "fence":
            kind, value, module = comment
            block = Block(
                page,
                token.map[0] + 2,
                token.info.strip(),
                token.content,
                value if kind == "file" else "",
                value if kind == "not run" else "",
                module,
                last_was_python and token.info.strip() == "text",
            )
            found.append(block)
            last_was_python = block.language == "python"
        elif token.type != "html_block":
            last_was_python = False
        match = _COMMENT.fullmatch(token.content) if token.type == "html_block" else None
        comment = (match[1], match[2], match[3] or "") if match else ("", "", "")
    return found


def inline_code_of(page: Path) -> list[tuple[int, str]]:
    """Return (line, text) of every piece of code within the text of a page."""
    tokens = MarkdownIt("commonmark").enable("table").parse(page.read_text("utf-8"))
    return [
        (token.map[0] + 1, child.content)
        for token in tokens
        if token.type == "inline" and token.map
        for child in token.children or ()
        if child.type == "code_inline"
    ]


def commands_of(text: str) -> list[str]:
    """Return the commands of a shell block, continued lines joined."""
    joined = text.replace("\\\n", " ")
    return [line.strip() for line in joined.splitlines() if line.strip()]

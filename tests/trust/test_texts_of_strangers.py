"""Texts of data that somebody sent become no markup, wherever results are written for others."""

import importlib
import json
import re
from types import SimpleNamespace

import pytest
from markdown_it import MarkdownIt
from rich.color import ColorSystem
from rich.table import Table

from ntpctp.cli.console import console, errors
from ntpctp.measures import Score
from ntpctp.report import model_card, tables
from ntpctp.report.html.figures import escaped
from ntpctp.report.html.templates import environment, packed

EVIL = [
    "<script>alert(1)</script>", "</script><script>alert(1)</script>", "<!--", "-->", "]]>",
    "<img src=x onerror=alert(1)>", "\u2028alert(1)\u2029", "[x](javascript:alert(1))",
    "![x](https://there/x.png)", '"onmouseover=alert(1) x="', "' onclick='alert(1)", "a|b|c",
    "line\nbreak", "{{ 7*7 }}", "{% raw %}", "javascript:alert(1)", "`code`", "&lt;script&gt;",
    "<a href='javascript:alert(1)'>x</a>", "https://there.example",
]  # fmt: skip


@pytest.mark.parametrize("evil", EVIL)
def test_a_model_card_shows_it_as_text(evil):
    scores = [
        Score("accuracy", "test", "exact_match", 0.5, "fraction", 9, True, stratum=evil),
        Score("accuracy", "test", "exact_match", None, "fraction", 9, True, reason=evil),
    ]
    outcome = SimpleNamespace(measured=[SimpleNamespace(name="a", scores=scores)])
    section = model_card._section(outcome, "s")
    assert "<" not in section.replace("&lt;", "") and section.count("\n") == 8
    page = MarkdownIt().enable("table").render(section)
    assert page.count("<tr>") == 3 and page.count("<td>") + page.count("<td style") == 14
    assert "<a" not in page and "<img" not in page and "<code>" not in page
    assert "exact_match" in page


@pytest.mark.parametrize("evil", EVIL)
def test_a_table_of_markdown_shows_it_as_text(evil):
    page = MarkdownIt().enable("table").render(f"| a |\n|---|\n| {tables._markdown(evil)} |\n")
    assert page.count("<td>") == 1 and page.count("<tr>") == 2
    assert not any(tag in page for tag in ("<script", "<a", "<img", "<code>"))


@pytest.mark.parametrize("evil", [r"\input{/etc/passwd}", r"\write18{ls}", "$x$", "%", "}{", "^^M"])
def test_a_table_of_latex_runs_no_command(evil):
    said = tables._latex(evil)
    commands = {r"\textbackslash", r"\textasciicircum", r"\{", r"\}", r"\$", r"\%"}
    rest = said
    for command in commands:
        rest = rest.replace(command, "")
    assert "\\" not in rest and "$" not in rest and "%" not in rest and "^" not in rest


@pytest.mark.parametrize("evil", EVIL)
def test_a_template_shows_it_as_text(evil):
    template = environment().from_string('<p title="{{ it }}">{{ it }}</p>')
    page = template.render(it=evil)
    assert page.count("<") == page.count(">") == page.count('"') == 2
    assert "49" not in page


@pytest.mark.parametrize("evil", EVIL)
def test_what_a_script_reads_ends_no_script(evil):
    inside = str(packed(json.dumps({"it": evil})))
    assert inside.isascii() and inside.replace("+", "").replace("/", "").rstrip("=").isalnum()


@pytest.mark.parametrize("evil", EVIL)
def test_a_label_of_a_figure_shows_it_as_text(evil):
    assert "<" not in escaped(evil).replace("<br>", "")


@pytest.mark.parametrize("colour", [False, True])
def test_texts_of_the_data_give_no_commands_to_the_terminal(
    ntpctp, tiny_file, tmp_path, monkeypatch, colour
):
    evil = "\x1b]0;title\x07\x1b[2J\x9b31m\x08\u202e"
    rows = [{"prompt": f"{n} {evil}:", "answer": f"{n}"} for n in range(9)]
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    if colour:
        monkeypatch.setattr(console, "_color_system", ColorSystem.STANDARD)
    task = {"name": "jsonl", "path": str(data)}
    shown = [
        ntpctp("audit", tiny_file(task=task, tokenizer="characters")),
        ntpctp("tasks", "jsonl", f"path={data}", "--show", "2"),
        ntpctp("audit", tmp_path / evil),
    ]
    for outcome in shown:
        printed = outcome.out + outcome.err
        assert "\ufffd]0;title" in printed
        # Colours are the program's own.
        own = re.sub(r"\x1b\[[0-9;]*m", "", printed) if colour else printed
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", own)
    assert [outcome.code for outcome in shown] == [0, 0, 2]


@pytest.mark.parametrize("name", ["console", "errors", "train_one", "evaluate_paths"])
def test_a_terminal_shows_no_pictures_for_words(name):
    printers = {"console": console, "errors": errors}
    printer = printers.get(name) or importlib.import_module(f"ntpctp.runner.{name}")._console
    table = Table(":b:")
    table.add_row("1:abc:2")
    with printer.capture() as printed:
        printer.print("host:abc:1", markup=False)
        printer.print(table)
    assert all(word in printed.get() for word in ("host:abc:1", ":b:", "1:abc:2"))

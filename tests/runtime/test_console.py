"""Lines on a terminal, and one line for what several shards have in common."""

import io

import pytest

from etl.runtime.console import fitted, once, print_over_echo

LINE = "  12:00:00  plan  source=/data/a.db  rowids=1..1000000"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_breaks_long_lines_between_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert fitted(LINE, Terminal()) == "  12:00:00  plan  source=/data/a.db\n    rowids=1..1000000"
    assert fitted(f"{'a-' * 30} b\n\nc", Terminal()) == f"{'a-' * 30}\n  b\n\nc", "a word stays whole"
    json = '{\n "warnings": ["' + LINE * 2 + '"]\n}'
    assert fitted(json, Terminal()) == json
    assert fitted(LINE, io.StringIO()) == LINE, "a file gets one line"


def test_a_line_after_ctrl_c_begins_where_the_terminal_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    print_over_echo("SIGINT: stopping")
    assert terminal.getvalue() == "\rSIGINT: stopping\n"


def test_lines_that_differ_only_in_the_shard_are_one() -> None:
    alike = [f"d/t_shard_{number}.db: {text}" for text in ("bad", "worse") for number in ("00", "01", "1000")]
    assert once([*alike, "X=1: bad", "d/u_shard_00.db: bad"]) == [
        "d/t_shard_00.db and 2 more: bad",
        "d/t_shard_00.db and 2 more: worse",
        "X=1: bad",
        "d/u_shard_00.db: bad",
    ]

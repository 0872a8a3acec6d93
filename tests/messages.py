"""The error messages of the code, read from its syntax tree: every template that may reach the operator."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.workplace import REPOSITORY

RAISED = {"EtlError", "Refused", "AlreadyRunning", "NoShards", "ShardError", "_error"}
"""Errors, and the methods that put a place before a message."""
FAULTS = {"_fault", "_unreadable"}
"""Functions whose f-strings are lines of an error that joins several."""


def templates() -> dict[str, str]:
    """Each message with … for what varies, and the file it is in, from etl/ on."""
    return {
        text: str(path.relative_to(REPOSITORY / "etl"))
        for path in sorted((REPOSITORY / "etl").rglob("*.py"))
        for text in _of(path)
        if re.search(r"\w{3}", text)
    }


def _of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and _name(node.func) in RAISED and node.args:
            yield from _texts(node.args[0])
        elif isinstance(node, ast.FunctionDef) and node.name in FAULTS:
            for inner in ast.walk(node):
                if isinstance(inner, ast.JoinedStr) and "expected" in ast.unparse(inner):
                    yield from _texts(inner)


def _name(function: ast.expr) -> str:
    return function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")


def _texts(node: ast.expr) -> Iterator[str]:
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.JoinedStr(values=parts):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in parts)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            yield from (first + last for first in _texts(left) for last in _texts(right))
        case ast.IfExp(body=body, orelse=orelse):
            yield from (*_texts(body), *_texts(orelse))
        case _:
            yield "…"

"""python -m etl: the commands, one line each; `python -m etl NAME …` runs one, and so does `shard-migrate NAME …`."""

from __future__ import annotations

import importlib
from typing import Any

import typer
from typer.core import TyperGroup

from etl.runtime.console import Version

COMMANDS = {
    "migrate": "Move a table into shard files, or add its new rows; --plan.",
    "verify": "Compare the shards with the source's rows; --repair fixes them.",
    "status": "Show the last run, the shards, their lag, the last verification.",
    "report": "Write SHARD_DIR/report.html: balance, keys and speed, in charts.",
    "cutover": "Seal the shards when the application moves to them; --check, --undo.",
    "route": "Print the shard and the file of a key, or SQL for all shards.",
}
"""Each command, which is the module etl.<name>, and what it does."""


class _Commands(TyperGroup):
    """The commands' modules, each imported on first use."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - click calls it so
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - as above
        if cmd_name not in COMMANDS:
            return None
        command = typer.main.get_command(importlib.import_module(module_of(cmd_name)).app)
        command.name, command.short_help = cmd_name, COMMANDS[cmd_name]
        return command


def module_of(command: str) -> str:
    """The module with the command's `app`."""
    return "etl.route" if command == "route" else f"etl.{command}.command"


app = typer.Typer(cls=_Commands, no_args_is_help=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    *,
    version: Version = False,  # noqa: ARG001 - its callback has acted before
) -> None:
    """Move one table of a very large SQLite file into shard files, and keep them in sync.

    Each command is also a module: python -m etl.migrate is the same as python -m etl migrate.

    Example: python -m etl migrate --demo
    """
    if context.invoked_subcommand is None:
        print("python -m etl.<command>, or shard-migrate <command>; --help explains each\n")
        for name, meaning in COMMANDS.items():
            print(f"  {name:<8} {meaning}")


if __name__ == "__main__":
    app(prog_name="shard-migrate")  # the name that shell completion knows

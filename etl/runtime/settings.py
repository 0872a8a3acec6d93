"""The settings: from the environment, over `.env`, over the defaults; every fault is reported at once."""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from dotenv.parser import Binding, parse_stream
from pydantic import BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from etl.core.errors import Refused
from etl.core.model import MAX_ROWID, ShardMap

logging.getLogger("dotenv.main").setLevel(logging.ERROR)  # _unreadable reports bad lines

_CLOSE = 0.85
"""So similar is a name to a setting's that is meant for it (`difflib`): SHARDS_DIR is, LOG_LEVEL is not."""


def _names(text: object) -> object:
    return tuple(name.strip() for name in text.split(",") if name.strip()) if isinstance(text, str) else text


def _filled(text: object) -> object:
    if isinstance(text, str) and (not text.strip() or "\0" in text):
        raise ValueError("no path")
    return text


def _name(text: object) -> object:
    if isinstance(text, str) and (not text or "\0" in text):
        raise ValueError("no name")  # SQLite and the file system would cut it at the zero byte
    return text


def _name_unless_empty(text: object) -> object:
    return None if text == "" else _name(text)


def _unset_if_empty(text: object) -> object:
    return None if text == "" else text


def _path_unless_empty(text: object) -> object:
    return None if text == "" else _filled(text)


def _command_line(text: object) -> object:
    if isinstance(text, str) and text and not shlex.split(text):  # raises where a quotation mark is not closed
        raise ValueError("no command")
    return text or None


Name = Annotated[str, BeforeValidator(_name)]
FilledPath = Annotated[Path, BeforeValidator(_filled)]


def _setting(default: Any, meaning: str, expected: str, **bounds: Any) -> Any:
    """A field with its meaning, for the settings table, and what its error message says was expected."""
    chosen = {"default_factory": default} if callable(default) else {"default": default}
    return Field(**chosen, description=meaning, json_schema_extra={"expected": expected}, **bounds)


class Settings(BaseSettings):
    """The settings. A test compares this class, the README's table and `.env.example`."""

    model_config = SettingsConfigDict(frozen=True, case_sensitive=True, extra="ignore")

    SOURCE_DB: FilledPath = _setting(Path("clients.db"), "source SQLite file, opened read-only", "a path")
    TABLE_NAME: Name = _setting("clients", "table to migrate", "a name")
    SHARD_DIR: FilledPath = _setting(Path("/shards"), "directory of the shards and the manifest", "a path")
    LOG_DIR: FilledPath = _setting(Path("./tmp"), "logs in JSON are written to LOG_DIR/logs", "a path")
    NUM_SHARDS: int = _setting(10, "number of shards for hashed keys", "a whole number from 1 to 4096", ge=1, le=4096)
    RESERVED_SHARD: int = _setting(
        lambda valid: valid["NUM_SHARDS"],
        "shard for NULL, empty and blank keys",
        "a whole number from 0 up",
        ge=0,
        le=MAX_ROWID,
    )
    BATCH_SIZE: int = _setting(
        6_000, "rows in a partition, which one query reads", "a whole number from 1 to 1000000", ge=1, le=1_000_000
    )
    READERS: int = _setting(
        6,
        "partitions read in parallel; a window is READERS × BATCH_SIZE rows",
        "a whole number from 1 to 64",
        ge=1,
        le=64,
    )
    TOTAL_ROWS: Annotated[int | None, BeforeValidator(_unset_if_empty)] = _setting(
        None,
        "expected rows, only for the progress; if unset, rowids are counted instead",
        "a whole number from 1 up, or nothing",
        ge=1,
    )
    GARB_COL_TICKER_MINUTES: float = _setting(
        5,
        "minutes between cleanups: free unused memory, log the memory in use",
        "a number of minutes above 0, at most 1440",
        gt=0,
        le=1440,
    )
    SHARD_KEY: Name = _setting("MOBILE_NUMBER", "column that decides the shard", "a name")
    INDEX_COLUMNS: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_names)] = _setting(
        ("INN", "MOBILE_NUMBER", "SNILS", "ИНН", "СНИЛС"),
        "columns to index in each shard, if they exist, beside the shard key, as `idx_<table>_<column>`",
        "names with commas between them, or nothing",
    )
    COPY_INDEXES: bool = _setting(True, "also create the source table's own indexes in the shards", "true or false")
    WRITERS: int = _setting(
        lambda: os.cpu_count() or 1, "threads that write shards", "a whole number from 1 to 256", ge=1, le=256
    )
    ENGINE: Literal["local"] = _setting(
        "local", "who does the work: `local`, threads of one process", "local, the only engine of this version"
    )

    METRICS_FILE: Annotated[Path | None, BeforeValidator(_path_unless_empty)] = _setting(
        None, "file for metrics in Prometheus text format, written during and after a run", "a path, or nothing"
    )
    MAX_RATE: Annotated[int | None, BeforeValidator(_unset_if_empty)] = _setting(
        None,
        "rows a second that a run or a verification reads on average",
        "a whole number from 1 up, or nothing",
        ge=1,
    )
    MAX_DELETE_PERCENT: float = _setting(
        10.0,
        "percentage of the shards' rows that a refresh may delete; `--allow-deletes N` goes beyond",
        "a number from 0 to 100",
        ge=0,
        le=100,
    )
    CURSOR_COLUMN: Annotated[str | None, BeforeValidator(_name_unless_empty)] = _setting(
        None,
        "column that every update of a row raises, as UPDATED_AT; each run then brings updated rows, too",
        "a name, or nothing",
    )
    LOG_RETENTION_DAYS: Annotated[int | None, BeforeValidator(_unset_if_empty)] = _setting(
        30,
        "days after which a log of this program in LOG_DIR/logs is deleted; if empty, none is",
        "a whole number from 1 up, or nothing",
        ge=1,
    )
    ON_SUCCESS: Annotated[str | None, BeforeValidator(_command_line)] = _setting(
        None, "command to start after a run with exit code 0; it gets the outcome as JSON", "a command line, or nothing"
    )
    ON_FAILURE: Annotated[str | None, BeforeValidator(_command_line)] = _setting(
        None, "command to start after a run with another exit code, but not 3", "a command line, or nothing"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic-settings calls it with these names
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment comes as a mapping (`init_settings`): it is read once, and tests pass a dict."""
        return init_settings, dotenv_settings

    @property
    def shard_map(self) -> ShardMap:
        return ShardMap(self.NUM_SHARDS, self.RESERVED_SHARD)


def load(environ: Mapping[str, str], env_file: Path | None = None) -> Settings:
    """The settings from `environ` over `env_file` (which may be missing) over the defaults.

    Raises Refused with one line for each fault: name, value, and what was expected.
    """
    given = {name: environ[name] for name in Settings.model_fields if name in environ}
    lines = _lines(env_file) if env_file and env_file.is_file() else []
    faults = _unreadable(lines)
    try:
        settings = Settings(_env_file=env_file, _env_file_encoding="utf-8", **given)  # type: ignore[call-arg,arg-type]  # options of the base class; text, to be parsed
    except ValidationError as error:
        given_ones = [fault for fault in error.errors() if fault["type"] != "default_factory_not_called"]
        faults += [_fault(str(fault["loc"][0]), fault["input"]) for fault in given_ones]
    if faults:
        raise Refused(*faults)
    return settings


def _fault(name: str, value: object) -> str:
    extra = Settings.model_fields[name].json_schema_extra
    expected = extra["expected"] if isinstance(extra, dict) else ""
    return f"{name}={value!r}: expected {expected}"


def misspelled(environ: Mapping[str, str], env_file: Path | None = None) -> list[str]:
    """A warning for each name, in `environ` or in `env_file`, that is no setting but close to one. Raises Refused."""
    given = [("the environment", name) for name in environ]
    if env_file and env_file.is_file():
        given += [(place, line.key) for place, line in _lines(env_file) if line.key]
    return [
        f"{name} in {place} is no setting and has no effect; {near[0]} is one"
        for place, name in given
        if name not in Settings.model_fields
        if (near := get_close_matches(name.upper(), Settings.model_fields, n=1, cutoff=_CLOSE))
    ]


def _lines(env_file: Path) -> list[tuple[str, Binding]]:
    """The lines of the file, each with its place. Raises Refused where it cannot be read."""
    try:
        with env_file.open(encoding="utf-8") as stream:
            return [(f"{env_file}, line {line.original.line}", line) for line in parse_stream(stream)]
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(
            f"{env_file}: expected UTF-8 lines of NAME=value; cannot read it ({type(error).__name__})"
        ) from None


def _unreadable(lines: Iterable[tuple[str, Binding]]) -> list[str]:
    """A fault for each line that is not NAME=value, without the line's text, which may be a secret."""
    places = list(lines)
    return [
        *(f"{place}: expected NAME=value" for place, line in places if line.error or (line.key and line.value is None)),
        *(
            f"{place}: expected a plain value; ${{…}} is not replaced here"
            for place, line in places
            if _has_reference(line)
        ),
    ]


def _has_reference(line: Binding) -> bool:
    """Whether python-dotenv would replace `${…}` in the value."""
    return line.key in Settings.model_fields and "${" in (line.value or "")

"""Settings: defaults, which source wins, every fault at once, and the README, .env.example and Settings as one."""

import os
import re
from pathlib import Path

import pytest

from etl.core.errors import Refused
from etl.runtime.settings import Settings, load, misspelled
from tests.workplace import REPOSITORY

CPUS = os.cpu_count() or 1
DEFAULTS: dict[str, object] = {
    "SOURCE_DB": Path("clients.db"),
    "TABLE_NAME": "clients",
    "SHARD_DIR": Path("/shards"),
    "LOG_DIR": Path("tmp"),
    "NUM_SHARDS": 10,
    "RESERVED_SHARD": 10,
    "BATCH_SIZE": 6_000,
    "READERS": 6,
    "TOTAL_ROWS": None,
    "GARB_COL_TICKER_MINUTES": 5,
    "SHARD_KEY": "MOBILE_NUMBER",
    "INDEX_COLUMNS": ("INN", "MOBILE_NUMBER", "SNILS", "ИНН", "СНИЛС"),
    "COPY_INDEXES": True,
    "WRITERS": CPUS,
    "ENGINE": "local",
    "METRICS_FILE": None,
    "MAX_RATE": None,
    "MAX_DELETE_PERCENT": 10.0,
    "CURSOR_COLUMN": None,
    "LOG_RETENTION_DAYS": 30,
    "ON_SUCCESS": None,
    "ON_FAILURE": None,
}
COMPUTED = {"RESERVED_SHARD": ("NUM_SHARDS", "10"), "WRITERS": ("CPU count", "2")}
"""Defaults without a value of their own: what README and .env.example print."""
ACCEPTED: list[tuple[str, str, object]] = [
    *(("SOURCE_DB", path, Path(path)) for path in ("a b.db", "/x/%41?#.db", "Клиенты.db", "-", "$HOME/${X}")),
    *(("TABLE_NAME", name, name) for name in ("two words", " ", 'a"b', "1", "[]", "{}", "null", "a=b")),
    *(("SHARD_KEY", name, name) for name in ("ключ", "select", "# no comment", "'quoted'")),
    *(("RESERVED_SHARD", text, int(text)) for text in ("0", "4096", "9223372036854775807")),
    *(("TOTAL_ROWS", text, value) for text, value in (("", None), ("1", 1), ("5000000000", 5_000_000_000))),
    *(("GARB_COL_TICKER_MINUTES", text, float(text)) for text in ("0.5", "1440", "1e1")),
    *(("METRICS_FILE", text, value) for text, value in (("", None), ("/x/etl.prom", Path("/x/etl.prom")))),
    *(("COPY_INDEXES", text, True) for text in ("true", "TRUE", "1", "yes", "on")),
    *(("COPY_INDEXES", text, False) for text in ("false", "False", "0", "no", "off")),
    *(("INDEX_COLUMNS", text, ()) for text in ("", " ", ",", " , ,")),
    ("INDEX_COLUMNS", ' a , b c,ИНН,"d"', ("a", "b c", "ИНН", '"d"')),
    ("INDEX_COLUMNS", '["a"]', ('["a"]',)),
    ("BATCH_SIZE", "1000000", 1_000_000),
    ("READERS", "64", 64),
    *((name, text, value) for name in ("MAX_RATE", "LOG_RETENTION_DAYS") for text, value in (("", None), ("7", 7))),
    *(("MAX_DELETE_PERCENT", text, value) for text, value in (("0", 0.0), ("2.5", 2.5), ("100", 100.0))),
    *((name, "", None) for name in ("ON_SUCCESS", "ON_FAILURE", "CURSOR_COLUMN")),
    ("CURSOR_COLUMN", "изменён", "изменён"),
    ("ON_FAILURE", "mail -s 'two words' ops", "mail -s 'two words' ops"),
    ("WRITERS", "256", 256),
]
REFUSED = [
    *(("NUM_SHARDS", text) for text in ("0", "4097", "-1", "ten", "", "1.5", "1e3", "10,000", "٣x", "0x10", "NaN")),
    *(("RESERVED_SHARD", text) for text in ("-1", "", "9223372036854775808", "None")),
    *(("BATCH_SIZE", text) for text in ("0", "1000001", "6000 rows", "9" * 5000)),
    *(("READERS", text) for text in ("0", "65", "")),
    *(("WRITERS", text) for text in ("0", "257", "all")),
    *(("TOTAL_ROWS", text) for text in ("0", "-5", "many", " ")),
    *(("GARB_COL_TICKER_MINUTES", text) for text in ("0", "-1", "1441", "nan", "inf", "-inf", "5m", "")),
    *(("COPY_INDEXES", text) for text in ("", "maybe", "2", "truefalse")),
    *(("ENGINE", text) for text in ("ray", "LOCAL", "", "local ")),
    *(("METRICS_FILE", text) for text in (" ",)),
    *((name, text) for name in ("MAX_RATE", "LOG_RETENTION_DAYS") for text in ("0", "-1", "1.5", "many")),
    *(("MAX_DELETE_PERCENT", text) for text in ("", "-1", "100.5", "nan", "many")),
    *((name, text) for name in ("ON_SUCCESS", "ON_FAILURE") for text in ("mail 'ops", 'mail "ops', " ")),
    *((name, text) for name in ("SOURCE_DB", "SHARD_DIR", "LOG_DIR") for text in ("", " ")),
    *(("TABLE_NAME", text) for text in ("",)),
    *(("SHARD_KEY", text) for text in ("",)),
    ("CURSOR_COLUMN", "a\0b"),
]


def faults(environ: dict[str, str], env_file: Path | None = None) -> list[str]:
    with pytest.raises(Refused) as refused:
        load(environ, env_file)
    return str(refused.value).splitlines()


def test_every_setting_has_its_default() -> None:
    assert load({}).model_dump() == DEFAULTS


@pytest.mark.parametrize(("name", "text", "value"), ACCEPTED)
def test_a_value_is_parsed_to_its_type(name: str, text: str, value: object) -> None:
    assert load({name: text}).model_dump() == DEFAULTS | {name: value}


@pytest.mark.parametrize(("text", "value"), [("1", 1), ("4096", 4096), (" 7 ", 7), ("07", 7)])
def test_rows_without_a_key_have_a_shard_of_their_own_unless_told_otherwise(text: str, value: int) -> None:
    assert load({"NUM_SHARDS": text}).model_dump() == DEFAULTS | {"NUM_SHARDS": value, "RESERVED_SHARD": value}
    assert load({"NUM_SHARDS": text, "RESERVED_SHARD": "3"}).RESERVED_SHARD == 3


@pytest.mark.parametrize(("name", "text"), REFUSED)
def test_a_bad_value_is_refused_by_name_with_what_was_expected(name: str, text: str) -> None:
    (line,) = faults({name: text})
    assert line.startswith(f"{name}={text!r}: expected ")
    extra = Settings.model_fields[name].json_schema_extra
    assert isinstance(extra, dict)
    assert line.endswith(str(extra["expected"]))


def test_all_faults_are_reported_together_each_in_a_line_of_its_own(tmp_path: Path) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text("READERS=many\nWRITERS=0\nTABLE_NAME=t\nthis is no setting\nBATCH_SIZE=0\n= 'nameless'\n")
    found = faults({"NUM_SHARDS": "0", "WRITERS": "-1"}, env_file)
    assert sorted(line.partition(": expected ")[0].removeprefix(str(tmp_path)) for line in found) == [
        "/.env, line 4",
        "/.env, line 6",
        "BATCH_SIZE='0'",
        "NUM_SHARDS='0'",
        "READERS='many'",
        "WRITERS='-1'",
    ]


def test_the_environment_wins_over_the_file_and_the_file_over_the_default(tmp_path: Path) -> None:
    env_file = tmp_path / ".env"
    lines = (
        "# NUM_SHARDS=1",
        "export NUM_SHARDS=20",
        'READERS="3" # three',
        "SHARD_KEY=ключ",
        "WRITERS=oops",
        "PATH=x",
    )
    env_file.write_text("\n".join(lines), encoding="utf-8")
    settings = load({"READERS": "4", "WRITERS": "5", "unrelated": "x", "num_shards": "6"}, env_file)
    changed = {"NUM_SHARDS": 20, "RESERVED_SHARD": 20, "READERS": 4, "SHARD_KEY": "ключ", "WRITERS": 5}
    assert settings.model_dump() == DEFAULTS | changed


def test_the_environment_of_the_process_is_read_only_through_the_mapping(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUM_SHARDS", "20")
    assert load({}).NUM_SHARDS == 10


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        *(("SHARDS_DIR", "SHARD_DIR"), ("NUM_SHARD", "NUM_SHARDS"), ("SOURCEDB", "SOURCE_DB")),
        *(("num_shards", "NUM_SHARDS"), ("BATCHSIZE", "BATCH_SIZE"), ("LOG_LEVEL", None), ("LOGNAME", None)),
        *((name, None) for name in (*DEFAULTS, "HOME", "PATH", "TABLE", "USER_DIR")),
    ],
)
def test_a_name_close_to_a_setting_is_a_warning(tmp_path: Path, given: str, meant: str | None) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text(f"READERS=2\n{given}=secret\n")
    warned = [
        f"{given} in {place} is no setting and has no effect; {meant} is one"
        for place in ("the environment", f"{env_file}, line 2")
    ]
    assert misspelled({given: "secret"}, env_file) == (warned if meant else [])


@pytest.mark.parametrize("content", [None, b"", b"\n# only a comment\n"])
def test_a_file_without_settings_changes_nothing(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / ".env").write_bytes(content)
    assert load({}, tmp_path / ".env").model_dump() == DEFAULTS


@pytest.mark.parametrize("line", ["NUM_SHARDS 20", "NUM_SHARDS: 20", "just text", "'half", "NUM SHARDS=20"])
def test_a_bad_line_of_the_file_is_a_fault_that_does_not_repeat_it(tmp_path: Path, line: str) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text(f"READERS=2\n{line}\n")
    (fault,) = faults({}, env_file)
    assert fault == f"{env_file}, line 2: expected NAME=value"


def test_a_file_that_is_not_utf8_is_a_fault(tmp_path: Path) -> None:
    env_file = tmp_path / ".env"
    env_file.write_bytes(b"SHARD_KEY=\xff\xfe\n")
    (fault,) = faults({}, env_file)
    assert fault.startswith(f"{env_file}: expected UTF-8")


def rendered(name: str) -> str:
    """The default as README and .env.example print it."""
    if name in COMPUTED:
        return COMPUTED[name][0]
    match Settings.model_fields[name].default:
        case None:
            return "(unset)"
        case bool() as flag:
            return str(flag).lower()
        case tuple() as names:
            return ",".join(names)
        case value:
            return str(value)


def described(name: str) -> str:
    return Settings.model_fields[name].description or ""


def test_the_table_of_the_readme_is_the_settings() -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    section = text.partition("\n## Settings\n")[2].partition("\n## ")[0]
    table = [line.strip("|").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in row] for row in table]
    expected = [[name, rendered(name), described(name)] for name in Settings.model_fields]
    assert [[name.strip("`"), default.strip("`"), meaning] for name, default, meaning in rows[1:]] == expected


def test_the_example_file_is_the_settings() -> None:
    text = (REPOSITORY / ".env.example").read_text(encoding="utf-8")
    found = re.findall(r"^# (.+)\n(?:# )?([A-Z_]+)=(.*)$", text, re.MULTILINE)
    unset = {"(unset)": ""} | dict(COMPUTED.values())
    expected = [(described(name), name, unset.get(rendered(name), rendered(name))) for name in Settings.model_fields]
    assert found == expected


def test_the_example_file_with_every_line_that_has_a_value_is_the_defaults(tmp_path: Path) -> None:
    text = (REPOSITORY / ".env.example").read_text(encoding="utf-8")
    (tmp_path / ".env").write_text(re.sub(r"^# ([A-Z_]+=.+)$", r"\1", text, flags=re.MULTILINE), encoding="utf-8")
    assert load({}, tmp_path / ".env").model_dump() == DEFAULTS

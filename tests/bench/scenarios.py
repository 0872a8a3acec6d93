"""What is run and compared: each scenario is a few cases, which run in turn: A B A B …"""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path

from tests.bench import commands
from tests.bench.check import check
from tests.bench.measure import Command, Result, measure
from tests.bench.sources import Source, Variant, made

MANY_SHARDS = (256, 2000)
FEW_FILES = 1024
"""A usual `ulimit -n`. Cases with more shards than that run under it."""
INCREMENT_SHARE = 100
"""An increment has the source's rows divided by this."""
SCALE = (20, 4, 1)
"""The compared sources have `--rows` divided by each of these."""


class Scenario(StrEnum):
    """The comparisons."""

    LOAD = "load"
    READ_TYPES = "read-types"
    RERUN = "rerun"
    INCREMENT = "increment"
    SHARDS = "shards"
    SCALE = "scale"


@dataclass(frozen=True)
class Options:
    """The options of the command line."""

    rows: int
    runs: int
    shards: int
    variant: Variant
    peers: Sequence[str]
    limit: Sequence[str] | None
    settings: dict[str, str]


@dataclass
class Report:
    """The results of a scenario. The others are compared with the first."""

    results: list[Result]
    skipped: dict[str, str] = field(default_factory=dict)
    """Peer → why it did not run."""
    facts: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """A full load of a source into an empty directory."""

    name: str
    source: Source
    shards: int
    command: Callable[[Path], Command]
    """The command that loads into that directory."""


class Bench:
    """A working directory and the options; each scenario is a method."""

    def __init__(self, work_dir: Path, options: Options, say: Callable[[str], None]) -> None:
        self._work_dir = work_dir
        self._options = options
        self._say = say

    def run(self, scenario: Scenario) -> Report:
        """Raises Failed if a program fails, Wrong if its shards do not have the source's rows."""
        scenarios: dict[Scenario, Callable[[], Report]] = {
            Scenario.LOAD: self._load,
            Scenario.READ_TYPES: self._read_types,
            Scenario.RERUN: self._rerun,
            Scenario.INCREMENT: self._increment,
            Scenario.SHARDS: self._shards,
            Scenario.SCALE: self._scale,
        }
        return scenarios[scenario]()

    # -- the scenarios -------------------------------------------------------------------------------------------------

    def _load(self) -> Report:
        options, source = self._options, self._source()
        cases, skipped = [self._ours("etl", source)], {}
        for name in options.peers:
            if reason := commands.why_no_peer(name, options.variant):
                skipped[name] = reason
            else:
                command = partial(commands.peer, name, source, shards=options.shards)
                cases.append(Case(name, source, options.shards, command))
        if options.limit and (reason := commands.why_no_limit(options.shards, options.variant)):
            skipped["limit"] = reason
        elif options.limit:
            cases.append(Case("limit", source, options.shards, partial(commands.limit, options.limit, source)))
        results = self._alternate(cases)
        return Report(results, skipped, _share_of_limit(results[0], results[-1]) if cases[-1].name == "limit" else {})

    def _read_types(self) -> Report:
        sources = [self._source(variant=variant) for variant in Variant]
        return Report(self._alternate([self._ours(source.variant, source) for source in sources]))

    def _rerun(self) -> Report:
        full = self._ours("full load", self._source())
        results = self._alternate([full], keep_last=True)
        rerun = Result("rerun", 0, full.shards)
        for _ in range(self._options.runs):
            self._measure(rerun, full, self._directory(full))
        return Report([*results, rerun])

    def _increment(self) -> Report:
        cached = self._source()
        source = Source(self._work_dir / "source.db", cached.variant)
        shutil.copyfile(cached.path, source.path)
        full = self._ours("full load", source)
        results = self._alternate([full], keep_last=True)
        increment = Result("increment", source.rows // INCREMENT_SHARE, full.shards)
        for _ in range(self._options.runs):
            source = source.append(increment.rows)
            self._measure(increment, self._ours("full load", source), self._directory(full))
        facts = {"share_of_full_load_s": results[0].wall_s / INCREMENT_SHARE, "increment_s": increment.wall_s}
        return Report([*results, increment], facts=facts)

    def _shards(self) -> Report:
        source = self._source()
        cases = [self._ours(f"{self._options.shards} shards", source)]
        for shards in MANY_SHARDS:
            limit = FEW_FILES if shards > FEW_FILES else None
            name = f"{shards} shards" + (f", ulimit -n {limit}" if limit else "")
            cases.append(self._ours(name, source, shards=shards, max_open_files=limit))
        return Report(self._alternate(cases))

    def _scale(self) -> Report:
        sources = [self._source(rows=self._options.rows // part) for part in SCALE]
        return Report(self._alternate([self._ours(f"{source.rows:,} rows", source) for source in sources]))

    # -- parts of the scenarios ----------------------------------------------------------------------------------------

    def _source(self, *, rows: int | None = None, variant: Variant | None = None) -> Source:
        rows, variant = rows or self._options.rows, variant or self._options.variant
        self._say(f"source: {rows:,} rows, {variant}")
        return made(rows, variant)

    def _ours(self, name: str, source: Source, *, shards: int | None = None, max_open_files: int | None = None) -> Case:
        num_shards = shards or self._options.shards
        command = partial(
            commands.ours,
            source,
            shards=num_shards,
            settings=self._options.settings,
            max_open_files=max_open_files,
        )
        return Case(name, source, num_shards, command)

    def _alternate(self, cases: Sequence[Case], *, keep_last: bool = False) -> list[Result]:
        """Full loads, `runs` of each case in turn. With `keep_last` the shards of the last run stay."""
        for source in {case.source.path: case.source for case in cases}.values():
            source.warm()
        results = [Result(case.name, case.source.rows, case.shards) for case in cases]
        for run in range(self._options.runs):
            for case, result in zip(cases, results, strict=True):
                directory = self._directory(case)
                shutil.rmtree(directory, ignore_errors=True)
                directory.mkdir()
                self._measure(result, case, directory)
                if run < self._options.runs - 1 and not keep_last:
                    shutil.rmtree(directory)
        return results

    def _measure(self, result: Result, case: Case, directory: Path) -> None:
        os.sync()  # writes out what earlier runs left, which would slow this one down
        measured = measure(case.command(directory), self._work_dir)
        rows, cells = check(case.source, directory, num_shards=case.shards, seed=len(result.runs))
        result.runs.append(measured)
        result.rows_checked += rows
        result.cells_checked += cells
        self._say(f"{result.name}: {measured.wall_s:.2f} s, {measured.peak_mb:.0f} MB, {rows:,} rows checked")

    def _directory(self, case: Case) -> Path:
        return self._work_dir / "".join(letter if letter.isalnum() else "-" for letter in case.name)


def _share_of_limit(ours: Result, limit: Result) -> dict[str, float]:
    """The limit's seconds divided by the number of cores, as a share of this program's: elapsed and CPU seconds."""
    cores = os.cpu_count() or 1
    return {
        "limit_wall_s_by_cores": limit.wall_s / cores,
        "share_of_limit": limit.wall_s / cores / ours.wall_s,
        "share_of_limit_by_cpu_s": limit.cpu_s / cores / ours.wall_s,
    }

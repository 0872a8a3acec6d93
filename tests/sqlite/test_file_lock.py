"""Two copies of SQLite never have a file open at once."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from etl.sqlite.file_lock import FileLock


def test_an_exclusive_holder_is_always_alone(tmp_path: Path) -> None:
    lock, together, met = FileLock(), [0, 0], []

    def work(kind: int) -> None:
        for _ in range(200):
            with lock.exclusive() if kind else lock.shared(tmp_path / "none.db"):
                together[kind] += 1
                met.append((together[1] > 0 and together[0] > 0) or together[1] > 1)
                together[kind] -= 1

    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(work, number % 3 == 0) for number in range(6)]:
            done.result()
    assert len(met) == 1200
    assert not any(met)

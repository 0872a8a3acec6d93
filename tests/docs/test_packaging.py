"""What an installation contains: every directory of modules."""

import tomllib

from tests.workplace import REPOSITORY


def test_every_directory_of_modules_is_installed() -> None:
    listed = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"][
        "packages"
    ]
    found = {".".join(path.parent.relative_to(REPOSITORY).parts) for path in (REPOSITORY / "etl").rglob("*.py")}
    assert len(found) > 1
    assert sorted(listed) == sorted(found)
    assert all((REPOSITORY / name.replace(".", "/") / "__init__.py").is_file() for name in found)

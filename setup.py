"""The long description for a package index: README.md with the names of files where it has links to them.

The project has no public address yet, so a relative link would lead nowhere there. All else is in pyproject.toml.
"""

import re
from pathlib import Path

from setuptools import setup

README = Path(__file__).with_name("README.md").read_text(encoding="utf-8")

setup(
    long_description=re.sub(r"\[([^]]+)\]\((?!https?:)([^)#]+)[^)]*\)", r"\1 (`\2`)", README),
    long_description_content_type="text/markdown",
)

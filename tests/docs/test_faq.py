"""docs/faq.md has an entry for each error message in the code, and none for a message that is gone."""

import re

from tests.messages import templates
from tests.workplace import REPOSITORY

FAQ = REPOSITORY / "docs" / "faq.md"


def without_place(text: str) -> str:
    return text.removeprefix("…: ")


def headings() -> list[str]:
    return re.findall(r"^### `(.*)`$", FAQ.read_text(encoding="utf-8"), re.MULTILINE)


def test_each_message_has_its_entry() -> None:
    known = headings()
    missing = {without_place(text): file for text, file in templates().items() if without_place(text) not in known}
    lines = "\n".join(
        f"### `{text}`\n(from etl/{file}) What it means, and what to do." for text, file in missing.items()
    )
    assert not missing, f"add to docs/faq.md, with a sentence or two under each:\n{lines}"


def test_no_entry_is_of_a_message_that_is_gone() -> None:
    gone = set(headings()) - {without_place(text) for text in templates()}
    assert not gone, f"no longer said by the code, so remove them from docs/faq.md: {sorted(gone)}"


def test_each_entry_says_something_and_stands_once() -> None:
    parts = re.split(r"^### `.*`$", FAQ.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    assert all(len(part.split("\n## ")[0].split()) >= 5 for part in parts)
    assert len(headings()) == len(set(headings()))


def test_the_messages_are_found_in_every_form_they_are_written_in() -> None:
    found = templates()
    assert found["…: made under other settings: …; set them back, or choose an empty SHARD_DIR"] == "shards/shard.py"
    assert found["the row … is too big to be read"] == "sources/reader.py", "given to a method that adds the place"
    assert found["--shard …: expected one of …; see NUM_SHARDS and RESERVED_SHARD"] == "verify/scope.py", "in a package"
    assert found["…=…: expected …"] == "runtime/settings.py", "a line of several"
    assert len(found) > 75

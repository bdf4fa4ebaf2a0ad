"""What an account's export gives away: every column is decided on."""

from pathlib import Path

from runs.retention.export import SECTIONS, exported_columns

DECIDED = Path(__file__).with_name("exported_columns.txt")


def test_every_exported_column_was_decided_on() -> None:
    """A new column of a model: add it to the list here, or to `export.SECRET`."""
    found = [
        f"{section}.{column}"
        for section, (model, _) in SECTIONS.items()
        for column in exported_columns(model)
    ]
    assert found == DECIDED.read_text().split()

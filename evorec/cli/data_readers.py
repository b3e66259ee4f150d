"""``evorec data readers``: the values of ``data.reader``."""

from __future__ import annotations

from evorec.cli.app import DEFINE, command
from evorec.cli.output import Output
from evorec.report.table import Column, Row, Table


@command(
    panel=DEFINE,
    order=50,
    name="data readers",
    examples=("evorec data readers",),
)
def readers(output: Output) -> None:
    """List the kinds of data that can be read, those of plugins included."""
    from evorec.data.readers import READERS

    texts = {name: reader.text for name, reader in READERS.items()}
    rows = tuple(Row(name, (text,)) for name, text in texts.items())
    output.result(texts, Table("Readers", "data.reader", (Column("reads"),), rows))
    output.next_step("evorec", "data", "get", "--list")

"""Small logs in files, read by the reader for any table."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from evorec.config import DataConfig, parse_config
from evorec.data.readers import Origin
from evorec.data.readers.table import read
from evorec.data.tables import Tables

HEAD = "u,i,t,c\n"
LOG = {"files": ["log.csv"], "user": "u", "item": "i", "time": "t", "time_unit": "s", "tasks": {"click": "c"}}
EVENTS = "u,i,t,e\n1,a,10,view\n1,a,20,cart\n2,a,15,view\n1,a,9000,view\n1,b,12,transaction\n"
EVENT_TASKS = {"view": "e != 'remove'", "cart": "e == cart or e == transaction", "buy": "e == transaction"}


def data_config(folder: Path, log: Mapping[str, Any], **sections: Any) -> DataConfig:
    overlay = {"data": {"reader": "table", "path": str(folder), "log": {**LOG, **log}, **sections}}
    return parse_config(overlay, source="my.toml").data


def counted(
    folder: Path, files: Mapping[str, str | bytes] | str, log: Any = None, **sections: Any
) -> tuple[Tables, Origin]:
    for name, text in ({"log.csv": files} if isinstance(files, str) else files).items():
        (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return read(data_config(folder, log or {}, **sections))


def table(folder: Path, files: Mapping[str, str | bytes] | str, log: Any = None, **sections: Any) -> Tables:
    return counted(folder, files, log, **sections)[0]


def rows(tables: Tables) -> list[tuple[Any, ...]]:
    return tables.interactions.rows()


def parquet(**columns: Any) -> bytes:
    buffer = io.BytesIO()
    pl.DataFrame(columns).write_parquet(buffer)
    return buffer.getvalue()


def zipped(**members: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in members.items():
            archive.writestr(name.replace("__", "/") + ".csv", text)
    return buffer.getvalue()


def workbook(**sheets: list[list[Any]]) -> bytes:
    """A workbook of Excel, as short as its readers accept."""
    schemas = "http://schemas.openxmlformats.org"
    main, office = f"{schemas}/spreadsheetml/2006/main", f"{schemas}/officeDocument/2006/relationships"
    links = f'<Relationships xmlns="{schemas}/package/2006/relationships">'

    def cell(value: Any) -> str:
        if isinstance(value, str):
            return f'<c t="inlineStr"><is><t>{value}</t></is></c>'
        return "<c/>" if value is None else f"<c><v>{value}</v></c>"

    listed, linked = "", ""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for n, (name, rows_of) in enumerate(sheets.items()):
            listed += f'<sheet name="{name}" sheetId="{n + 1}" r:id="r{n}"/>'
            linked += f'<Relationship Id="r{n}" Type="{office}/worksheet" Target="worksheets/{n}.xml"/>'
            body = "".join(f"<row>{''.join(map(cell, row))}</row>" for row in rows_of)
            sheet = f'<worksheet xmlns="{main}"><sheetData>{body}</sheetData></worksheet>'
            archive.writestr(f"xl/worksheets/{n}.xml", sheet)
        book = f'<workbook xmlns="{main}" xmlns:r="{office}"><sheets>{listed}</sheets></workbook>'
        archive.writestr("[Content_Types].xml", f'<Types xmlns="{schemas}/package/2006/content-types"/>')
        start = f'<Relationship Id="r" Type="{office}/officeDocument" Target="xl/workbook.xml"/>'
        archive.writestr("_rels/.rels", f"{links}{start}</Relationships>")
        archive.writestr("xl/workbook.xml", book)
        archive.writestr("xl/_rels/workbook.xml.rels", f"{links}{linked}</Relationships>")
    return buffer.getvalue()

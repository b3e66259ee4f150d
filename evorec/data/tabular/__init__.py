"""Files of any text or Parquet format as typed columns, with refusals that name the file, the line and the column."""

from evorec.data.tabular.dialect import Dialect, detect

__all__ = ["Dialect", "detect"]

"""Files of any text or Parquet format as typed columns, with refusals that name the file, the line and the column."""

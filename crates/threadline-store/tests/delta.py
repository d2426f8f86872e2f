"""Reads a table as other engines do and prints what it finds as JSON: argv = table folder."""

import json
import sys

import deltalake
import duckdb

VIEW = """
SELECT * REPLACE (CASE
  WHEN body_json THEN body
  WHEN starts_with(body, chr(3)) THEN substr(body, 2)
  ELSE replace(replace(body, chr(1), coalesce(lower(hex(trace_id)), '')), chr(2), coalesce(lower(hex(span_id)), ''))
END AS body) FROM logs
"""

table = deltalake.DeltaTable(sys.argv[1])
files = table.file_uris()
seen = {
    "version": table.version(),
    "files": len(files),
    "schema": {field.name: str(field.type.type) for field in table.schema().fields},
}
rows = duckdb.sql(f"SELECT count(*), sum(seq)::BIGINT FROM read_parquet({files}, union_by_name = true)").fetchall()[0]
seen["rows"], seen["sum"] = rows
# All columns of the table's schema, as the table log has it; a file lacks those that none of its rows uses.
duckdb.register("logs", table.to_pyarrow_table())
seen["bodies"] = duckdb.sql(f"SELECT sum(length(body))::BIGINT FROM ({VIEW})").fetchall()[0][0]
actions = table.get_add_actions(flatten=True)
import pyarrow

actions = pyarrow.table(actions).to_pylist()
seen["records"] = sum(action["num_records"] for action in actions)
hours = duckdb.sql(f"SELECT DISTINCT hour::VARCHAR FROM ({VIEW}) ORDER BY 1").fetchall()
seen["hours"] = [hour for (hour,) in hours]
seen["scanned"] = table.to_pyarrow_dataset().count_rows()
try:
    duckdb.sql("SET autoinstall_known_extensions = false; LOAD delta")
except duckdb.Error as error:
    # DuckDB's own reader of Delta comes from another registry: used where it is installed, never fetched here.
    seen["delta_scan"] = None
    print(f"duckdb's delta extension is not at hand: {error}", file=sys.stderr)
else:
    seen["delta_scan"] = duckdb.sql(
        f"SELECT count(*), sum(seq)::BIGINT FROM delta_scan('{sys.argv[1]}')"
    ).fetchall()[0]
print(json.dumps(seen))

from __future__ import annotations

import pytest

from dropdiag.integrations.sql.write import to_sql
from dropdiag.store.reader import load

# of Python 3.10 there is no DuckDB 2
duckdb = pytest.importorskip("duckdb", minversion="2")


def views(where, out):
    """Write views over runs and return a connection that has them."""
    to_sql(load(where), out)
    connection = duckdb.connect(config={"threads": 1})
    connection.execute((out / "views.sql").read_text(encoding="utf-8"))
    return connection


@pytest.fixture
def open_views(tmp_path):
    return lambda where, name="sql": views(where, tmp_path / name)

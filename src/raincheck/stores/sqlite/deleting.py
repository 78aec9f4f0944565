"""Deleting rows of bodies and requests; what they have in files is deleted after the commit."""

from __future__ import annotations

from sqlite3 import Connection

from raincheck.operations.operation import REQUEST_FENCE


def delete_bodies(connection: Connection, ids: list[str]) -> list[tuple[str, int]]:
    """Delete the rows of bodies and requests; return the files that nothing refers to now."""
    files: list[tuple[str, int]] = []
    for operation_id in ids:
        query = """SELECT DISTINCT operation_id, fence FROM chunks
                   WHERE operation_id = ? AND data IS NULL"""
        files += connection.execute(query, (operation_id,)).fetchall()
        connection.execute("DELETE FROM chunks WHERE operation_id = ?", (operation_id,))
        connection.execute("DELETE FROM requests WHERE operation_id = ?", (operation_id,))
    return files


def delete_old(strays: list[str], before: float, connection: Connection) -> list[tuple[str, int]]:
    """Delete bodies that have no record, if they are old and that is still so."""
    query = """SELECT 1 FROM chunks WHERE operation_id = ? AND written <= ? AND NOT EXISTS
               (SELECT 1 FROM operations WHERE id = operation_id)"""
    old = [one for one in strays if connection.execute(query, (one, before)).fetchone()]
    return delete_bodies(connection, old)


def delete_request(connection: Connection, operation_id: str) -> list[tuple[str, int]]:
    """Delete the rows of a request and its body; return the file that nothing refers to now."""
    connection.execute("DELETE FROM requests WHERE operation_id = ?", (operation_id,))
    body = "FROM chunks WHERE operation_id = ? AND fence = ?"
    values = (operation_id, REQUEST_FENCE)
    in_file = connection.execute(f"SELECT 1 {body} AND data IS NULL LIMIT 1", values).fetchone()
    connection.execute(f"DELETE {body}", values)
    return [values] if in_file else []

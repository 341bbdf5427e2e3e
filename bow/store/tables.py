"""Parquet as we write it: fixed schema, row groups and compression, so equal tables are equal bytes."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fistful.errors import DataError, UsageError

from .columns import BROKEN_PARQUET, check_damage
from .files import HashingWriter, atomic_file
from .folders import parquet_source

ROW_GROUP = 1 << 16


def write_table(folder: Path, name: str, table: pa.Table) -> dict[str, Any]:
    """Write FOLDER/NAME atomically and return its size and hash."""
    writer = TableWriter(table.schema)
    writer.add(table)
    return writer.write(folder, name)


class TableWriter:
    """A parquet file that is put together in memory, compressed, part by part.

    Args:
        schema: The columns, and the file's metadata.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._sink = pa.BufferOutputStream()
        self._writer = pq.ParquetWriter(self._sink, schema, compression="zstd", version="2.6", store_schema=False)

    def add(self, table: pa.Table) -> None:
        """Append rows: every part but the last must have a multiple of ROW_GROUP of them, for the bytes to depend on the rows alone."""
        for start in range(0, max(table.num_rows, 1), ROW_GROUP):  # the schema's offsets have 32 bits, a joined table's may need more
            part = table.slice(start, ROW_GROUP).combine_chunks().cast(self._schema)
            self._writer.write_table(part, row_group_size=ROW_GROUP)

    def write(self, folder: Path, name: str) -> dict[str, Any]:
        """Write FOLDER/NAME atomically and return its size and hash."""
        if self._schema.metadata:  # without Arrow's own schema it would be left out
            self._writer.add_key_value_metadata(self._schema.metadata)
        self._writer.close()
        with atomic_file(folder, name) as file:
            file.write(self._sink.getvalue())  # pyright: ignore[reportArgumentType]
        return file.record()


@contextlib.contextmanager
def table_file(folder: Path, name: str, schema: pa.Schema, row_group: int) -> Generator[TableFile]:
    """Open FOLDER/NAME for rows that come in parts of any size: no more than some row groups are ever held in memory.

    Args:
        folder: The output folder.
        name: The file in it.
        schema: The columns; Arrow's own form of them stands in the file, so that lists of a fixed size are read back as such.
        row_group: Rows in a group.
    """
    with atomic_file(folder, name) as file:
        opened = TableFile(file, schema, row_group)
        try:
            yield opened
        except BaseException:
            opened.abandon()
            raise
        opened.finish()


class TableFile:
    """What `table_file` opens."""

    def __init__(self, file: HashingWriter, schema: pa.Schema, row_group: int) -> None:
        self._file, self._schema, self._row_group = file, schema, row_group
        self._writer = pq.ParquetWriter(pa.PythonFile(_Sink(file), mode="w"), schema, compression="zstd", version="2.6")
        self._waiting: list[pa.Table] = []
        self._n_waiting = 0
        self._finished = False
        self.n_rows = 0

    def add(self, table: pa.Table) -> None:
        """Append rows."""
        self._waiting.append(table)
        self._n_waiting += table.num_rows
        self.n_rows += table.num_rows
        if self._n_waiting >= self._row_group:
            waiting = pa.concat_tables(self._waiting)
            whole = waiting.num_rows - waiting.num_rows % self._row_group
            self._write(waiting.slice(0, whole))
            self._waiting, self._n_waiting = [waiting.slice(whole)], waiting.num_rows - whole

    def _write(self, table: pa.Table) -> None:
        self._writer.write_table(table.combine_chunks().cast(self._schema), row_group_size=self._row_group)

    def finish(self) -> None:
        """Write what is left, and the file's end, unless that was done before."""
        if self._finished:
            return
        if self._n_waiting or not self.n_rows:
            self._write(pa.concat_tables([self._schema.empty_table(), *self._waiting]))
        self._writer.close()
        self._finished = True

    def abandon(self) -> None:
        """Write nothing more: what there is goes with the file, and needs no end."""
        self._writer.is_open = False  # else it is written when the writer is collected, into a file that is closed

    def local(self) -> str:
        """Return where on this machine the finished file can be read, until it has its name."""
        return self._file.local()

    def record(self) -> dict[str, Any]:
        """Return {"size": bytes, "sha256": hex} of the file."""
        return self._file.record()


class _Sink:
    """A file as Arrow wants one: it closes nothing, for whoever opened the file does."""

    closed = False

    def __init__(self, file: HashingWriter) -> None:
        self.write = file.write

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass


def read_table(path: Path, schema: pa.Schema, longer: pa.Schema | None = None) -> pa.Table:
    """Read one of our tables.

    Args:
        path: The file.
        schema: The columns that are read.
        longer: The same columns and more, which it may have too; these are not read.

    Raises:
        UsageError: If it is missing.
        DataError: If it is not parquet, or has other columns than the schema's.
        OSError, MemoryError: If not the file but the disk or the memory is at fault.
    """
    # a group at a time: lists are not read in parts, and those of a whole file may hold more text than 32 bits count
    return pa.concat_tables(read_groups(path, schema, longer))


def read_groups(path: Path, schema: pa.Schema, longer: pa.Schema | None = None) -> Iterator[pa.Table]:
    """Yield one of our tables by its row groups, one at least; takes and raises what `read_table` does."""
    with _readable(path), pq.ParquetFile(parquet_source(path)) as file:
        names = file.schema_arrow.names
        if names != schema.names and (longer is None or names != longer.names):
            raise DataError(f"{path}: columns are {names}, expected {schema.names}")
        schema = schema.with_metadata(file.metadata.metadata)
        for i in range(file.num_row_groups):
            yield _cast(file.read_row_group(i, columns=schema.names), path, schema)
        if not file.num_row_groups:
            yield _cast(file.schema_arrow.empty_table().select(schema.names), path, schema)


def _cast(table: pa.Table, path: Path, schema: pa.Schema) -> pa.Table:
    try:
        return table.cast(schema)
    except pa.ArrowException:
        raise DataError(
            f"{path}: columns are {', '.join(map(str, table.schema.types))}, expected {', '.join(map(str, schema.types))}"
        ) from None


def column_names(path: Path) -> list[str]:
    """Return the columns of one of our tables.

    Raises:
        UsageError: If it is missing.
        DataError: If it is not parquet.
    """
    with _readable(path):
        return pq.read_schema(parquet_source(path)).names


@contextlib.contextmanager
def _readable(path: Path) -> Generator[None]:
    """Turn what a missing or broken parquet file raises into errors of ours."""
    try:
        yield
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file; is the folder one that fistful wrote?") from None
    except BROKEN_PARQUET as error:
        raise DataError(f"{path}: not a readable parquet file ({check_damage(error, path)})") from None


def join_tables(tables: Sequence[pa.Table], schema: pa.Schema) -> pa.Table:
    """Return tables of one schema as one, each column in one piece, with offsets of 64 bits.

    Offsets of 32 bits, as our files and schemas have them, end at 2 GiB of text: some 35 million captions.
    """
    large = pa.schema([field.with_type(_large(field.type)) for field in schema])
    return pa.concat_tables([table.cast(large) for table in tables] or [large.empty_table()]).combine_chunks()


def _large(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_list(kind):
        return pa.large_list(_large(kind.value_type))
    return pa.large_string() if pa.types.is_string(kind) else pa.large_binary() if pa.types.is_binary(kind) else kind

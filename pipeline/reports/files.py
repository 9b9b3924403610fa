"""Exports as files: written so that half of one never looks whole, checked without any server.

A file is written beside its place and moved there when it is whole; manifest.json comes last. A folder without it is
no export, and may be written again. What is held in memory is one block of ClickHouse's.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from pipeline.reports import compliance
from pipeline.reports.manifest import FORM, ManifestError, opened, sealed
from pipeline.reports.question import Period, Report
from sinks.raw_format import Readable, columns, exactly, stream, write_parquet

MANIFEST: Final = "manifest.json"
PARTIAL: Final = ".partial"
BLOCK_BYTES: Final = 1 << 20


class ExportError(RuntimeError):
    """An export cannot be written or is not sound; one line that names the file."""


@dataclass(frozen=True)
class Facts:
    """What can be counted of a file."""

    rows: int
    sha256: str
    bytes: int


def write_query(history: Readable, report: Report, fmt: str, path: Path) -> dict[str, str]:
    """A report as one file in a format of `compliance.FORMATS`, moved there when whole; its columns → types.

    Raises QueryError, OSError.
    """
    types = columns(history, report.sql, report.parameters)
    sql, name = exactly(report.sql, types), compliance.FORMATS[fmt][0]
    partial = path.with_name(path.name + PARTIAL)
    try:
        if name == "Parquet":
            write_parquet(history, sql, report.parameters, partial)
        else:
            with partial.open("wb") as out:
                out.writelines(text(history, sql, report.parameters, fmt, types))
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return types


def text(
    history: Readable, sql: str, parameters: Mapping[str, Any], fmt: str, types: Iterable[str]
) -> Iterator[bytes]:
    """The bytes of a query as CSV with a line of names, or as JSON lines. Raises QueryError."""
    if fmt == "csv":
        yield header(types)
    yield from stream(history, sql, parameters, compliance.FORMATS[fmt][0])


def header(names: Iterable[str]) -> bytes:
    """CSV's first line."""
    return (",".join('"' + name.replace('"', '""') + '"' for name in names) + "\n").encode()


def facts(path: Path, fmt: str) -> Facts:
    """Rows, SHA-256 and length of a file. Raises OSError, ExportError where it is not of its format."""
    digest, size = hashlib.sha256(), 0
    lines, within = 0, False
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
            size += len(block)
            if fmt == "jsonl":
                lines += block.count(b"\n")
            elif fmt == "csv":  # a line break within quotes ends no row; a doubled quote changes nothing
                for place, piece in enumerate(block.split(b'"')):
                    within ^= place > 0
                    lines += 0 if within else piece.count(b"\n")
    rows = _parquet_rows(path) if fmt == "parquet" else max(lines - (fmt == "csv"), 0)
    return Facts(rows, digest.hexdigest(), size)


def _parquet_rows(path: Path) -> int:
    import pyarrow
    import pyarrow.parquet

    try:
        return int(pyarrow.parquet.ParquetFile(path).metadata.num_rows)
    except (pyarrow.ArrowException, OSError):
        raise ExportError(f"{path.name}: it is no Parquet file") from None


def write_export(
    history: Any, folder: Path, period: Period, fmt: str, key: Ed25519PrivateKey | None, version: str,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> dict[str, Any]:  # fmt: skip
    """The four parts and their manifest; what is returned is the manifest. Raises ExportError, QueryError, OSError."""
    _prepare(folder, fmt)
    before = _told(history, compliance.COVERED)
    verified = _told(history, compliance.VERIFIED)
    files = [_part(history, folder, name, period, fmt) for name in compliance.PARTS]
    grew = _told(history, compliance.COVERED) != before
    if not grew:
        _all_there(history, files, period)
    manifest = {
        "form": FORM,
        "created": now().isoformat(timespec="seconds").replace("+00:00", "Z"),
        "tool": f"tidebook {version}",
        "format": fmt,
        "from": str(period.first),
        "to": str(period.last),
        "files": files,
        "positions": before,
        "grew_meanwhile": grew,
        "verified": verified,
    }
    partial = folder / (MANIFEST + PARTIAL)
    with partial.open("wb") as out:
        out.write(sealed(manifest, key))
        out.flush()
        os.fsync(out.fileno())
    partial.replace(folder / MANIFEST)
    return manifest


def _part(history: Any, folder: Path, name: str, period: Period, fmt: str) -> dict[str, Any]:
    report = compliance.part(name, period)
    path = folder / f"{name}.{compliance.FORMATS[fmt][1]}"
    types = write_query(history, report, fmt, path)
    found = facts(path, fmt)
    return {
        "name": path.name,
        "part": name,
        "about": compliance.PARTS[name],
        "rows": found.rows,
        "bytes": found.bytes,
        "sha256": found.sha256,
        "columns": [{"name": column, "type": kind} for column, kind in types.items()],
        "sql": report.pasteable,
        "recompute": {what: of.pasteable for what, of in compliance.recomputed(name, period).items()},
    }


def _all_there(history: Any, files: Iterable[Mapping[str, Any]], period: Period) -> None:
    """A second question must find as many rows as were written."""
    for file in files:
        report = compliance.part(file["part"], period)
        (told,) = history.query(f"SELECT count() AS rows FROM ({report.sql})", report.parameters)
        if int(told["rows"]) != file["rows"]:
            raise ExportError(
                f"{file['name']}: {file['rows']} rows were written of {told['rows']}; export again"
            )


def _prepare(folder: Path, fmt: str) -> None:
    """Make the folder; what an export that was cut off has left goes. Raises ExportError, OSError."""
    if folder.exists() and not folder.is_dir():
        raise ExportError(f"--out {folder}: it is no directory; name an empty one, or one that is not there")
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / MANIFEST).exists():
        raise ExportError(f"--out {folder}: it holds an export already; name another directory")
    ours = {f"{name}.{end}" for name in compliance.PARTS for _, end in compliance.FORMATS.values()}
    left = [path for path in folder.iterdir() if path.name.partition(PARTIAL)[0] in {*ours, MANIFEST}]
    strange = sorted(path.name for path in folder.iterdir() if path not in left)
    if strange:
        raise ExportError(f"--out {folder}: it holds {strange[0]}; name an empty directory")
    for path in left:
        path.unlink()


def _told(history: Any, report: Report) -> list[dict[str, Any]]:
    return [dict(row) for row in history.query(report.sql, report.parameters)]


@dataclass(frozen=True)
class Checked:
    """A sound export: its manifest, and hex of the key that signed it (None: nobody)."""

    manifest: Mapping[str, Any]
    signer: str | None


def check_export(folder: Path, trusted: Ed25519PublicKey | None) -> Checked:
    """Hashes, rows and signature of an export. Raises ExportError naming the file that differs."""
    try:
        content = (folder / MANIFEST).read_bytes()
    except OSError:
        raise ExportError(
            f"{MANIFEST}: there is none in {folder}: it is no export, or one that was cut off"
        ) from None
    try:
        manifest, signer = opened(content, trusted)
        files = {str(file["name"]): file for file in manifest["files"]}
        fmt = str(manifest["format"])
        told = sorted(str(file["part"]) for file in manifest["files"])
        if told != sorted(compliance.PARTS):
            raise ExportError(f"{MANIFEST}: its files are not one each of {', '.join(compliance.PARTS)}")
        for name, file in files.items():
            _same(folder, name, file, fmt)
    except ManifestError as error:
        raise ExportError(f"{MANIFEST}: {error}") from None
    except (KeyError, TypeError, ValueError):
        raise ExportError(f"{MANIFEST}: it is no manifest of `tidebook compliance-export`") from None
    strange = sorted({path.name for path in folder.iterdir()} - {*files, MANIFEST})
    if strange:
        raise ExportError(f"{strange[0]}: it is not in the manifest")
    return Checked(manifest, signer)


def _same(folder: Path, name: str, file: Mapping[str, Any], fmt: str) -> None:
    path = folder / name
    if path.name != name or fmt not in compliance.FORMATS:
        raise ValueError(name)
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise ExportError(f"{name}: it is no file of its own; an export has no links")
    try:
        digest = _digest(path)
        if digest != file["sha256"]:
            raise ExportError(
                f"{name}: it was changed: its SHA-256 is {digest}, the manifest says {file['sha256']}"
            )
        found = facts(path, fmt)
    except OSError as error:
        raise ExportError(f"{name}: {error.strerror or error}") from None
    if (found.rows, found.bytes) != (file["rows"], file["bytes"]):
        raise ExportError(f"{name}: it has {found.rows} rows, the manifest says {file['rows']}")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

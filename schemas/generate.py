"""Write what is derived from the .avsc files: records.py, registry.json, docs/data-dictionary.md.

`python -m schemas.generate` writes them; `--check` writes nothing and exits 1 with one line for each problem:
CI and `tidebook schemas check` ask the same question. What is committed in git is the base that the registry
may only be appended to: ids that were never committed are still free. Without git the file itself is that
base.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from schemas.dictionary import dictionary
from schemas.forms import SchemaFault
from schemas.freeze import freeze, prefix_errors
from schemas.loader import PACKAGE, Schema, load
from schemas.records_source import records_source
from schemas.registry import REGISTRY_FILE, Entry, dump_entries, parse_entries, read_entries

RECORDS_FILE = PACKAGE / "records.py"
DICTIONARY_FILE = PACKAGE.parent / "docs" / "data-dictionary.md"
HISTORY_MAX = 20  # committed versions of the registry that are compared


def docs() -> str:
    """The data dictionary of the package's schemas as Markdown."""
    return dictionary(load())


def check() -> list[str]:
    """Every problem of schemas and generated files, one line each; [] if all is well. Writes nothing."""
    try:
        schemas = load()
    except SchemaFault as fault:
        return [str(fault)]
    problems = lint(schemas)
    versions = committed_versions()
    current = read_entries(REGISTRY_FILE)
    for label, entries in versions:
        problems += [
            f"schemas/registry.json: {error} since {label}" for error in prefix_errors(entries, current)
        ]
    expected, refused = _outputs(schemas, versions)
    problems += refused
    for path, text in expected.items():
        if path == DICTIONARY_FILE and not DICTIONARY_FILE.parent.is_dir():
            continue  # an installed package carries no docs
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            problems.append(f"{path.relative_to(PACKAGE.parent)}: stale; run python -m schemas.generate")
    return problems


def write() -> tuple[list[Path], list[str]]:
    """Write what is stale. (files written, problems); with problems nothing is written. Raises
    SchemaFault."""
    schemas = load()
    expected, problems = _outputs(schemas, committed_versions())
    problems += lint(schemas)
    if problems:
        return [], problems
    stale = [
        path
        for path, text in expected.items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(expected[path], encoding="utf-8")
    return stale, []


def lint(schemas: Sequence[Schema]) -> list[str]:
    """House rules: every record and every field is explained where it is declared."""
    found = []
    for schema in schemas:
        if "doc" not in schema.documented:
            found.append(f"{schema.name}: has no doc")
        found += [f"{schema.name}: {path}: has no doc" for path in _undocumented(schema.documented, "")]
    return found


def committed_versions() -> list[tuple[str, tuple[Entry, ...]]]:
    """The committed versions of registry.json, newest first, as (commit, entries); [] where git has none."""
    commits = _git(PACKAGE, "log", f"-{HISTORY_MAX}", "--format=%h", "--", REGISTRY_FILE.name)
    versions = []
    for commit in (commits or "").split():
        text = _git(PACKAGE, "show", f"{commit}:./{REGISTRY_FILE.name}")
        if text is not None:
            versions.append((commit, parse_entries(text)))
    return versions


def _outputs(
    schemas: Sequence[Schema], versions: Sequence[tuple[str, tuple[Entry, ...]]]
) -> tuple[dict[Path, str], list[str]]:
    base = versions[0][1] if versions else () if _in_checkout() else read_entries(REGISTRY_FILE)
    entries, problems = freeze(base, schemas)
    return {
        RECORDS_FILE: records_source(schemas),
        REGISTRY_FILE: dump_entries(entries),
        DICTIONARY_FILE: dictionary(schemas),
    }, problems


def _in_checkout() -> bool:
    """Whether git keeps this package's source: then ids that were never committed are free."""
    return bool(_git(PACKAGE, "ls-files", "--", "__init__.py"))


def _git(root: Path, *arguments: str) -> str | None:
    """What git prints, None if it fails or is not there."""
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _undocumented(form: object, path: str) -> list[str]:
    if isinstance(form, list):
        return [each for branch in form for each in _undocumented(branch, path)]
    if not isinstance(form, dict):
        return []
    found = []
    for field in form.get("fields", ()):
        at = f"{path}.{field['name']}".lstrip(".")
        found += [] if field.get("doc") else [at]
        found += _undocumented(field["type"], at)
    for key in ("type", "items", "values"):
        found += _undocumented(form.get(key), path)
    return found


def main(arguments: Sequence[str]) -> int:
    """Exit status: 0 if all is well or was written, 1 with the problems on stderr, 2 for wrong arguments."""
    if list(arguments) not in ([], ["--check"]):
        sys.stderr.write("usage: python -m schemas.generate [--check]\n")
        return 2
    try:
        written, problems = ([], check()) if arguments else write()
    except SchemaFault as fault:
        written, problems = [], [str(fault)]
    sys.stderr.write("".join(f"schemas: {problem}\n" for problem in problems))
    sys.stdout.write("".join(f"wrote {path.relative_to(PACKAGE.parent)}\n" for path in written))
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

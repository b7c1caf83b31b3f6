"""Listing the folders that results come from, never written to, and reading the files that somebody else wrote.

Files are read leniently, in bounded time and memory, and no content is followed.

Accepted next to plain JSON: the tokens NaN, Infinity and -Infinity, a byte order mark, and a text that is cut off
anywhere (also one whose lost end reads as zero bytes), of which the complete top-level keys are kept.
"""

import codecs
import copy
import errno
import functools
import hashlib
import json
import math
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from qablate.catalog import MODEL_TOKEN, TASK_TOKEN
from qablate.files import read_regular
from qablate.logs import Log, read_log
from qablate.records import (
    CHECKSUM,
    MAX_RECORD_BYTES,
    Record,
    RecordError,
    check_record,
    companion,
    content_sha256,
    integers_as_such,
)
from qablate.results.states import COMPRESSED, LOCAL, Found
from qablate.study import Cell, Study

CHECKPOINT_NAME = re.compile(rf"checkpoint_({MODEL_TOKEN})_({TASK_TOKEN})_L(\d{{1,6}})_seed(\d{{1,10}})\.pt")
MISPLACED_NAME = re.compile(r"synthetic_.*_results\.json(?:\.\w{1,4})?")
MAX_DEPTH = 3
MAX_PREDICTIONS_BYTES = 500_000_000
LITERALS = ("true", "false", "null", "NaN", "Infinity", "-Infinity")
NUMBER_STUBS = (".", "e", "E", "e-", "e+", "E-", "E+")
ESCAPE_LENGTH = 6
CHANGED = "changed since it was written: its checksum (content_sha256) is of another content"


@dataclass(frozen=True)
class Reading:
    """What a file holds: `values` by top-level key, numbers that are not finite as None, whole numbers as integers.

    `whole` is False for a text that was cut off, `changed` tells that its checksum is not that of its content. With a
    `problem` (a reason code) nothing of the file can be used.
    """

    values: dict[str, Any] = field(default_factory=dict)
    whole: bool = True
    problem: str = ""
    detail: str = ""
    sha256: str = ""
    changed: bool = False


def checks_path(result: Path) -> Path:
    """Return the file of what `qablate check` found out about a result; in a folder of its own, not among results."""
    return result.parent / "checks" / result.name.replace("results.json", "checks.json")


def has_checkpoint(study: Study, cell: Cell) -> bool:
    """Whether the study's own folder holds a checkpoint of a cell, or the one before it."""
    path = study.result_folder / "checkpoints" / f"checkpoint_{cell.name}.pt"
    return os.path.exists(path) or os.path.exists(f"{path}.previous")


def predictions_problem(result: Path, record: Mapping[str, Any]) -> str:
    """Say if the predictions next to a result are not those it tells of; no path inside the record is followed."""
    path = companion(result, "predictions.npz")
    if not record["predictions"] or not os.path.lexists(path):
        return ""
    try:
        digest = hashlib.sha256(read_regular(path, MAX_PREDICTIONS_BYTES)).hexdigest()
    except OSError as error:
        return f"{path.name} cannot be read: {error.strerror or error}"
    return "" if digest == record["predictions"]["sha256"] else f"{path.name} is of another run"


def read_record(path: Path) -> Record:
    """Return the record of schema 2 that a file holds; RecordError, in one line, if it holds none."""
    reading = read_result(path)
    if reading.problem or not reading.whole:
        raise RecordError(f"{path}: {reading.problem or 'truncated'}: {reading.detail}")
    check_record(reading.values, path)
    if reading.changed:
        raise RecordError(f"{path}: {CHANGED}")
    return copy.deepcopy(reading.values)


def read_result(path: Path) -> Reading:
    """Read one file; one that did not change since is not read twice in a process."""
    try:
        status = os.stat(path)
    except OSError as error:
        return Reading(problem="unreadable", detail=error.strerror or str(error))
    if not stat.S_ISREG(status.st_mode):
        return Reading(problem="not_a_file", detail="a folder, pipe or device under the name of a result")
    if status.st_size > MAX_RECORD_BYTES:
        return Reading(problem="too_large", detail=f"{status.st_size} bytes, a result has at most {MAX_RECORD_BYTES}")
    return _read(path, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@functools.lru_cache(maxsize=2048)
def _read(path: Path, *state: int) -> Reading:
    try:
        return parse(read_regular(path, MAX_RECORD_BYTES))
    except OSError as error:
        return Reading(problem="unreadable", detail=error.strerror or str(error))


def parse(content: bytes) -> Reading:
    """Turn the bytes of a result file into what can be used of them; never raises, whatever they are."""
    digest = hashlib.sha256(content).hexdigest()
    kept = content.rstrip(b"\0 \t\r\n")
    if not kept:
        return Reading(problem="empty", detail=f"{len(content)} bytes, none of them text", sha256=digest)
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(kept)    # drops a last character that was cut in two
        try:
            values, whole = _DECODER.decode(text), True
        except json.JSONDecodeError:
            values, whole = _complete_keys(text), False
        if not isinstance(values, dict):
            raise ValueError("holds no JSON object")
        values = integers_as_such({key: value for key, value in values.items() if not key.startswith("_")})
        changed = whole and CHECKSUM in values and values[CHECKSUM] != content_sha256(values)
        return Reading(values, whole, sha256=digest, changed=changed)
    except UnicodeDecodeError as error:
        return Reading(problem="encoding", detail=f"not UTF-8 at byte {error.start}", sha256=digest)
    except (ValueError, RecursionError) as error:
        return Reading(problem="not_json", detail=str(error)[:120], sha256=digest)


def _complete_keys(text: str) -> dict[str, Any]:
    """Return the top-level keys before the point where the text is cut off.

    A value counts as complete if a comma follows: `0.00` may be what is left of `0.0033`. Raises ValueError if the text
    holds no object, or does not end where it breaks, which is no cut but damage.
    """
    pairs: list[tuple[str, Any]] = []
    at = _behind(text, 0, "{")
    try:
        while True:
            key, at = _DECODER.raw_decode(text, at)
            value, at = _DECODER.raw_decode(text, _behind(text, at, ":"))
            at = _behind(text, at, ",")
            if not isinstance(key, str):
                raise ValueError("a key that is no string")
            pairs.append((key, value))
    except json.JSONDecodeError as error:
        if not _cut_at(text, error):
            raise
    return _unrepeated(pairs)


def _behind(text: str, at: int, sign: str) -> int:
    """Return the place behind a sign and the space around it."""
    found = re.compile(rf"[ \t\n\r]*({re.escape(sign)})?[ \t\n\r]*").match(text, at)
    if found is None or found[1] is None:
        raise json.JSONDecodeError(f"Expecting '{sign}'", text, found.end() if found else at)
    return found.end()


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object whose keys differ; ValueError for a key that is there twice: one value would be lost."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found


def _cut_at(text: str, error: json.JSONDecodeError) -> bool:
    """Whether a parser's error is that the text ends: nothing follows, or one token that was cut in two."""
    rest = text[error.pos : error.pos + 16]
    if error.msg.startswith("Unterminated string"):
        return True
    if error.msg.startswith("Invalid \\"):
        return len(text) - error.pos <= ESCAPE_LENGTH
    return not rest or rest in NUMBER_STUBS or any(word.startswith(rest) for word in LITERALS)


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unrepeated,
    parse_constant=lambda _: None,
    parse_float=lambda token: value if math.isfinite(value := float(token)) else None,
    parse_int=lambda token: int(token) if len(token) < 20 and abs(int(token)) < 2**63 else None,    # no count, no score
)


@dataclass
class Listing:
    """What the folders of all sources hold.

    `misplaced`: results in subfolders, which are not read. `unreadable` has one line per folder that could not be
    listed, `remarks` one per declared folder of which nothing was read.
    """

    results: list[Found] = field(default_factory=list)
    misplaced: list[Found] = field(default_factory=list)
    checkpoints: dict[tuple[str, Cell], Found] = field(default_factory=dict)
    logs: dict[tuple[str, Cell], list[Log]] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def files(self, folder: Path, key: str) -> list[Path] | None:
        """The entries of one folder by name; a folder that cannot be listed is noted, and None."""
        try:
            return [folder / name for name in sorted(os.listdir(folder))]
        except (OSError, ValueError) as error:
            self.unreadable.append(f"{key}: {folder}: {getattr(error, 'strerror', None) or error}")
            return None

    def add_results(self, source: str, folder: Path, key: str, declared: set[str]) -> None:
        """Sort the files of one folder and of `checkpoints/` in it; `declared` are folders that are read themselves."""
        files, below = self.files(folder, key), folder / "checkpoints"
        found = [Found.at(source, path) for path in files or ()
                 if path.suffix.lower() == ".json" or (path.suffix in COMPRESSED and path.stem.endswith(".json"))]
        checkpoints = self.files(below, f"{key}: checkpoints") if os.path.isdir(below) else ()
        for path in [*(files or ()), *(checkpoints or ())]:
            if match := CHECKPOINT_NAME.fullmatch(path.name):
                cell = Cell(match[1], match[2], int(match[3]), int(match[4]))
                self.checkpoints.setdefault((source, cell), Found.at(source, path))
        misplaced = [Found.at(source, path) for path in _in_subfolders(folder, declared)]
        self.results += found
        self.misplaced += misplaced
        if files is not None and not found and source != LOCAL:
            elsewhere = f"; results lie in {misplaced[0].path.parent}?" if misplaced else ""
            self.remarks.append(f"{key}: {folder}: holds no result{elsewhere}")

    def add_logs(self, source: str, folder: Path, key: str) -> None:
        """Sort the logs of one folder by cell: those with results first, younger ones before older."""
        files = self.files(folder, key)
        logs = [log for path in files or () if (log := read_log(path)) and log.cell]
        for log in logs:
            of_cell = self.logs.setdefault((source, cast(Cell, log.cell)), [])
            of_cell.append(log)
            of_cell.sort(key=lambda log: (not log.complete, -log.modified, str(log.path)))
        if files is not None and not logs:
            self.remarks.append(f"{key}: {folder}: holds no training log")


def list_sources(study: Study) -> Listing:
    """List the study's own results folder (label `local`) and every folder of `systems:`.

    A folder that several entries name is listed once, under the first system that names it.
    """
    listing, systems = Listing(), study.config["systems"]
    declared = [(name, folder, f"systems.{name}.results") for name, settings in systems.items()
                for folder in _folders(settings["results"])]
    known = {os.path.realpath(folder) for _, folder, _ in declared}    # Path.resolve raises where links go round
    seen = set[str]()
    own = [] if _is_absent(study.result_folder) else [(LOCAL, study.result_folder, "results")]
    for name, folder, key in (*declared, *own):
        if os.path.realpath(folder) not in seen:
            seen.add(os.path.realpath(folder))
            listing.add_results(name, folder, key, known)
    for name, settings in systems.items():
        for folder in _folders(settings.get("logs", [])):
            listing.add_logs(name, folder, f"systems.{name}.logs")
    return listing


def _is_absent(folder: Path) -> bool:
    """Whether there is no such folder; one that may not be looked into is there."""
    try:
        folder.stat()
    except OSError as error:
        return error.errno in (errno.ENOENT, errno.ENOTDIR)
    return False


def _folders(setting: str | list[str]) -> list[Path]:
    return [Path(folder) for folder in ([setting] if isinstance(setting, str) else setting)]


def _in_subfolders(folder: Path, declared: set[str]) -> Iterator[Path]:
    """Files named like results below a folder that are not read, few levels deep; declared folders are skipped."""
    for place, names, files in os.walk(folder):
        here = Path(place)
        depth = len(here.relative_to(folder).parts)
        names[:] = sorted(name for name in names if depth < MAX_DEPTH and os.path.realpath(here / name) not in declared)
        yield from (here / name for name in sorted(files) if depth and MISPLACED_NAME.fullmatch(name))

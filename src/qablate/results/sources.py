"""The folders that results come from: listed, never written to."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from qablate.logs import Log, read_log
from qablate.results.verdicts import LOCAL, Found
from qablate.study import Cell, Study

CHECKPOINT_NAME = re.compile(r"checkpoint_(\w+?)_([a-z]+(?:_[a-z]+)*)_L(\d{1,6})_seed(\d{1,10})\.pt")
MISPLACED_NAME = re.compile(r"synthetic_.*_results\.json(?:\.\w{1,4})?")
COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".zip")
MAX_DEPTH = 3


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
    folders: list[Path] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def list_sources(study: Study) -> Listing:
    """List the study's own results folder (label `local`) and every folder of `systems:`.

    A folder that several entries name is listed once, under the first system that names it.
    """
    listing, systems = Listing(), study.config["systems"] or {}
    declared = [(name, folder) for name, settings in systems.items() for folder in _folders(settings["results"])]
    known, seen = {_resolved(folder) for _, folder in declared}, set[Path]()
    for name, folder in declared:
        if _resolved(folder) not in seen:
            seen.add(_resolved(folder))
            _add_results(listing, name, folder, f"systems.{name}.results", known)
    for name, settings in systems.items():
        for folder in _folders(settings.get("logs", [])):
            _add_logs(listing, name, folder, f"systems.{name}.logs")
    if study.result_folder.exists() and _resolved(study.result_folder) not in seen:
        _add_results(listing, LOCAL, study.result_folder, "results", known)
    return listing


def _folders(setting: str | list[str]) -> list[Path]:
    return [Path(folder) for folder in ([setting] if isinstance(setting, str) else setting)]


def _resolved(folder: Path) -> Path:
    return Path(os.path.realpath(folder))    # Path.resolve raises where links go round


def _add_results(listing: Listing, source: str, folder: Path, key: str, declared: set[Path]) -> None:
    n_unreadable = len(listing.unreadable)
    files = list(_files(listing, folder, key))
    listing.folders.append(folder)
    found = [Found.at(source, path) for path in files if path.suffix == ".json" or _is_compressed(path)]
    below = folder / "checkpoints"
    checkpoints = _files(listing, below, f"{key}: checkpoints") if below.is_dir() else iter(())
    for path in [*files, *checkpoints]:
        if match := CHECKPOINT_NAME.fullmatch(path.name):
            cell = Cell(match[1], match[2], int(match[3]), int(match[4]))
            listing.checkpoints.setdefault((source, cell), Found.at(source, path))
    misplaced = [Found.at(source, path) for path in _in_subfolders(folder, declared)]
    listing.results += found
    listing.misplaced += misplaced
    if not found and source != LOCAL and n_unreadable == len(listing.unreadable):
        elsewhere = f"; results lie in {misplaced[0].path.parent}?" if misplaced else ""
        listing.remarks.append(f"{key}: {folder}: holds no result{elsewhere}")


def _is_compressed(path: Path) -> bool:
    return path.suffix in COMPRESSED and path.stem.endswith(".json")


def _in_subfolders(folder: Path, declared: set[Path]) -> list[Path]:
    """Files named like results below a folder that are not read, few levels deep; declared folders are skipped."""
    found = []
    for place, names, files in os.walk(folder):
        here = Path(place)
        depth = len(here.relative_to(folder).parts)
        names[:] = sorted(name for name in names if depth < MAX_DEPTH and _resolved(here / name) not in declared)
        found += [here / name for name in sorted(files) if depth and MISPLACED_NAME.fullmatch(name)]
    return found


def _add_logs(listing: Listing, source: str, folder: Path, key: str) -> None:
    """Sort the logs of one folder by cell: those with results first, younger ones before older."""
    n_unreadable, n_logs = len(listing.unreadable), 0
    for path in _files(listing, folder, key):
        log = read_log(path)
        if log is not None and log.cell is not None:
            n_logs += 1
            of_cell = listing.logs.setdefault((source, log.cell), [])
            of_cell.append(log)
            of_cell.sort(key=lambda log: (not log.complete, -log.modified, str(log.path)))
    if not n_logs and n_unreadable == len(listing.unreadable):
        listing.remarks.append(f"{key}: {folder}: holds no training log")


def _files(listing: Listing, folder: Path, key: str) -> Iterator[Path]:
    """The entries of one folder by name; what cannot be listed is noted."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries)
    except OSError as error:
        listing.unreadable.append(f"{key}: {folder}: {error.strerror or error}")
        return
    yield from (folder / name for name in names)

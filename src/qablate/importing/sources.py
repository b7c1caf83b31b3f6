"""The folders that results come from: listed, never written to."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from qablate.importing.logs import Log, read_log
from qablate.importing.verdicts import LOCAL, Found
from qablate.study import Cell, Study

CHECKPOINT_NAME = re.compile(r"checkpoint_(\w+?)_([a-z]+(?:_[a-z]+)*)_L(\d{1,6})_seed(\d{1,10})\.pt")


@dataclass
class Listing:
    """What the folders of all sources hold; `unreadable` has one line a folder that could not be listed."""

    results: list[Found] = field(default_factory=list)
    checkpoints: dict[tuple[str, Cell], Found] = field(default_factory=dict)
    logs: dict[tuple[str, Cell], list[Log]] = field(default_factory=dict)
    folders: list[Path] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


def list_sources(study: Study) -> Listing:
    """List the study's own results folder (label `local`) and every folder of `systems:`.

    A folder that several entries name is listed once, under the first system that names it.
    """
    listing, seen = Listing(), set()
    for name, settings in (study.config["systems"] or {}).items():
        for folder in _folders(settings["results"]):
            if folder.resolve() not in seen:
                seen.add(folder.resolve())
                _add_results(listing, name, folder, f"systems.{name}.results")
        for folder in _folders(settings.get("logs", [])):
            _add_logs(listing, name, folder, f"systems.{name}.logs")
    if study.result_folder.exists() and study.result_folder.resolve() not in seen:
        _add_results(listing, LOCAL, study.result_folder, "results")
    return listing


def _folders(setting: str | list[str]) -> list[Path]:
    return [Path(folder) for folder in ([setting] if isinstance(setting, str) else setting)]


def _add_results(listing: Listing, source: str, folder: Path, key: str) -> None:
    files = list(_files(listing, folder, key))
    listing.folders.append(folder)
    listing.results += [_found(source, path) for path in files if path.suffix == ".json"]
    below = folder / "checkpoints"
    checkpoints = _files(listing, below, f"{key}: checkpoints") if below.is_dir() else iter(())
    for path in [*files, *checkpoints]:
        if match := CHECKPOINT_NAME.fullmatch(path.name):
            cell = Cell(match[1], match[2], int(match[3]), int(match[4]))
            listing.checkpoints.setdefault((source, cell), _found(source, path))


def _add_logs(listing: Listing, source: str, folder: Path, key: str) -> None:
    """Sort the logs of one folder by cell: those with results first, younger ones before older."""
    for path in _files(listing, folder, key):
        log = read_log(path)
        if log is not None and log.cell is not None:
            of_cell = listing.logs.setdefault((source, log.cell), [])
            of_cell.append(log)
            of_cell.sort(key=lambda log: (not log.complete, -log.modified, str(log.path)))


def _files(listing: Listing, folder: Path, key: str) -> Iterator[Path]:
    """The entries of one folder by name; what cannot be listed is noted."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries)
    except OSError as error:
        listing.unreadable.append(f"{key}: {folder}: {error.strerror or error}")
        return
    yield from (folder / name for name in names)


def _found(source: str, path: Path) -> Found:
    try:
        status = path.stat()
    except OSError:
        return Found(source, path)
    return Found(source, path, status.st_size, status.st_mtime)

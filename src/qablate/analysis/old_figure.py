"""A figure of the report and the files it is written to: PNG, SVG, and the CSV it was drawn from."""

import base64
import io
import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure as Canvas

from qablate.analysis.old_table import write_frame
from qablate.analysis.style import look
from qablate.files import write_atomic

MAX_EMBEDDED_SVG = 400_000
"""Bytes above which the HTML report embeds the PNG instead: curves of hundreds of runs."""


@dataclass(frozen=True)
class Drawing:
    """What a figure function returns: the canvas, the frame it was drawn from, and what the caption says besides."""

    canvas: Canvas
    frame: pd.DataFrame
    note: str = ""


@dataclass(frozen=True)
class Figure:
    """A written figure: title, caption, its bytes and the suffixes of its files; or the reason why there is none."""

    id: str
    title: str
    caption: str = ""
    png: bytes = b""
    svg: bytes = b""
    reason: str = ""
    suffixes: tuple[str, ...] = ()

    @property
    def data_uri(self) -> str:
        """The picture as a URI, so that the HTML report is one file."""
        kind, content = ("svg+xml", self.svg) if len(self.svg) <= MAX_EMBEDDED_SVG else ("png", self.png)
        return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def write_figure(folder: Path, figure_id: str, title: str, caption: str, drawing: Drawing, pdf: bool = False) -> Figure:
    """Render a drawing and write `ID.png`, `ID.svg`, `ID.csv` and, if asked for, `ID.pdf` below `folder`.

    Equal input gives equal bytes.
    """
    rendered = {kind: _render(drawing.canvas, kind) for kind in ("png", "svg", *(["pdf"] if pdf else []))}
    for kind, content in rendered.items():
        write_atomic(folder / f"{figure_id}.{kind}", content)
    write_frame(folder / f"{figure_id}.csv", drawing.frame)
    return Figure(figure_id, title, " ".join(filter(None, (caption, drawing.note))), rendered["png"], rendered["svg"],
                  suffixes=(*rendered, "csv"))


def _render(canvas: Canvas, kind: str) -> bytes:
    buffer = io.BytesIO()
    metadata = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}, "pdf": {"CreationDate": None}}[kind]
    with look():
        canvas.savefig(buffer, format=kind, metadata=metadata, facecolor="white")
    return _with_numbered_names(buffer.getvalue()) if kind == "svg" else buffer.getvalue()


def _with_numbered_names(svg: bytes) -> bytes:
    """matplotlib names clip paths and markers by hashes of numbers whose last bits differ between processes."""
    names: dict[bytes, bytes] = {}
    return re.sub(rb"\b[pmh][0-9a-f]{10}\b", lambda hashed: names.setdefault(hashed[0], b"part%d" % len(names)), svg)

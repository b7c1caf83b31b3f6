"""A figure of the report and the files it is written to: PNG, SVG, and the CSV it was drawn from."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure as Canvas

from qablate.analysis.style import look
from qablate.analysis.table import write_frame
from qablate.files import write_atomic

SUFFIXES = ("png", "svg", "csv")
"""Endings of the files that every figure is written to."""
MAX_EMBEDDED_SVG = 400_000
"""Bytes above which the HTML report embeds the PNG instead: curves of hundreds of runs."""


@dataclass(frozen=True)
class Drawing:
    """What a figure function returns: the canvas and the frame it was drawn from."""

    canvas: Canvas
    frame: pd.DataFrame


@dataclass(frozen=True)
class Figure:
    """A written figure: title, caption, its bytes and where they stand."""

    id: str
    title: str
    caption: str
    png: bytes
    svg: bytes

    @property
    def data_uri(self) -> str:
        """The picture as a URI, so that the HTML report is one file."""
        kind, content = ("svg+xml", self.svg) if len(self.svg) <= MAX_EMBEDDED_SVG else ("png", self.png)
        return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def write_figure(folder: Path, figure_id: str, title: str, caption: str, drawing: Drawing) -> Figure:
    """Render a drawing and write `ID.png`, `ID.svg` and `ID.csv` below `folder`; equal input gives equal bytes."""
    png, svg = _render(drawing.canvas, "png"), _render(drawing.canvas, "svg")
    write_atomic(folder / f"{figure_id}.png", png)
    write_atomic(folder / f"{figure_id}.svg", svg)
    write_frame(folder / f"{figure_id}.csv", drawing.frame)
    return Figure(figure_id, title, caption, png, svg)


def _render(canvas: Canvas, kind: str) -> bytes:
    buffer = io.BytesIO()
    metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
    with look():
        canvas.savefig(buffer, format=kind, metadata=metadata, facecolor="white")
    return buffer.getvalue()

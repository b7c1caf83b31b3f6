"""Tables for the terminal and the figure of a measurement."""

import io
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from qablate.files import write_atomic

COLUMNS = 80
Rows = list[dict[str, Any]]


def print_tables(report: dict[str, Any]) -> None:
    """Print one table a part, in 80 columns."""
    console = Console(width=COLUMNS)
    machine, load = report["machine"], report["load_before"][0]
    console.print(f"{machine['cpu']}, {machine['simd']}, {machine['threads']} thread(s), device {machine['device']}; "
                  f"load {load:.1f}; medians of {report['rounds']} interleaved rounds", highlight=False)
    tables = {"circuit": circuit_table, "scan": scan_table, "step": step_table, "roofline": roofline_table}
    for part, table in tables.items():
        rows = [row for row in report["rows"] if row["part"] == part]
        if rows:
            console.print(table(rows))


def circuit_table(rows: Rows) -> Table:
    """Circuits: forward and backward."""
    table = _table("circuit, forward and backward, float32", "qubits", "batch", "backend", "CPU ms", "wall ms",
                   "spread", "ratio", "peak MB")
    for row in rows:
        table.add_row(str(row["n_qubits"]), str(row["batch"]), row["contender"], *_times(row),
                      _number(row.get("ratio"), "x"), _number(row.get("added_mb")))
    return table


def scan_table(rows: Rows) -> Table:
    """Scans: forward and backward."""
    table = _table("selective scan, forward and backward, float32", "length", "backend", "CPU ms", "wall ms",
                   "spread", "ratio", "kept MB", "peak MB")
    for row in rows:
        table.add_row(str(row["length"]), row["contender"], *_times(row), _number(row.get("ratio"), "x"),
                      _number(row.get("saved_mb")), _number(row.get("added_mb")))
    return table


def step_table(rows: Rows) -> Table:
    """Training steps; with a GPU also launches a step and the share of the time it is busy."""
    on_gpu = any("launches" in row for row in rows)
    more = ("launches", "busy") if on_gpu else ()
    table = _table("training step", "model", "length", "CPU ms", "wall ms", "spread", "ratio", "circuits", "epoch s",
                   *more)
    for row in rows:
        step = row["qablate"]
        cells = [row["model"], str(row["length"]), *_times(step), _number(row["ratio"], "x"),
                 _percent(row["circuit_share"]), _number(row["epoch_wall_s" if on_gpu else "epoch_cpu_s"])]
        if on_gpu:
            cells += [_number(row.get("launches")), _percent(row.get("busy_fraction"))]
        table.add_row(*cells)
    return table


def roofline_table(rows: Rows) -> Table:
    """Kernels against the ceilings measured beside them."""
    title = f"ceilings: {rows[0]['ceiling_gflops']:.0f} GFLOP/s, {rows[0]['ceiling_gb_s']:.0f} GB/s"
    table = _table(title, "kernel", "MFLOP", "MB", "floor ms", "CPU ms", "share")
    for row in rows:
        floor = max(row["arithmetic_floor_ms"], row["memory_floor_ms"])
        table.add_row(row["kernel"], *map(_number, (row["mflop"], row["mb"], floor, row["cpu_ms"])),
                      _percent(row["share_of_ceiling"]))
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 or column == "backend" else "right", no_wrap=True)
    return table


def _times(row: dict[str, Any]) -> tuple[str, str, str]:
    if "skipped" in row:
        return "not run", "", ""
    return _number(row.get("cpu_ms")), _number(row.get("wall_ms")), _percent(row.get("spread"))


def _number(value: float | None, unit: str = "") -> str:
    if value is None:
        return ""
    digits = 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{value:.{digits}f}{unit}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.0f} %" if value >= 0.1 else f"{100 * value:.1f} %"


def write_figure(rows: Rows, beside: Path) -> None:
    """Write the PNG and the SVG beside the JSON: ratios of CPU time to the opponent of each part, logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    named = [(part, _ratios(rows, part)) for part in ("circuit", "scan", "step")]
    panels = [(part, bars) for part, bars in named if bars]
    if not panels:
        return
    longest = max(len(bars) for _, bars in panels)
    figure, axes = pyplot.subplots(1, len(panels), figsize=(4.2 * len(panels), 1.2 + 0.19 * longest), squeeze=False)
    for axis, (part, bars) in zip(axes[0], panels, strict=True):
        labels, values = zip(*bars, strict=True)
        axis.barh(range(len(bars)), values, color="#33658a")
        axis.set_yticks(range(len(bars)), labels, fontsize=7)
        axis.invert_yaxis()
        axis.set_xscale("log")
        axis.axvline(1, color="black", linewidth=0.8)
        axis.set_xlabel(f"{part}: times less CPU time than\n{OPPONENTS[part]}", fontsize=8)
    figure.tight_layout()
    for kind in ("png", "svg"):
        content = io.BytesIO()
        figure.savefig(content, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
        write_atomic(beside.with_suffix(f".{kind}"), content.getvalue())
    pyplot.close(figure)


OPPONENTS = {
    "circuit": "default.qubit, broadcast and backprop",
    "scan": "the unbind loop in torch",
    "step": "PennyLane circuits and the unbind loop",
}


def _ratios(rows: Rows, part: str) -> list[tuple[str, float]]:
    labels = {
        "circuit": "{n_qubits} qubits, {batch}, {contender}",
        "scan": "L={length}, {contender}",
        "step": "{model}, L={length}",
    }
    chosen = [row for row in rows if row["part"] == part and row.get("ratio")]
    return [(labels[part].format(**row), row["ratio"]) for row in chosen
            if row.get("contender") != row.get("baseline") or part == "step"]

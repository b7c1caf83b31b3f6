"""Hours that cells without a result are expected to take on one device: measured in results, else in the cost table."""

import statistics

import pandas as pd

from qablate.analysis.runs import Collection
from qablate.hours import COSTS_PATH, MEASURED_ITEMS, CostRow, CostTable, with_rows

HOUR = 3600.0


def cost_table() -> CostTable:
    """The cost table of the working folder, an empty one where there is none."""
    return CostTable.read() if COSTS_PATH.exists() else CostTable(())


def planning_device(collection: Collection) -> str:
    """The device that the settings name for run times, else the one most results name, else `cpu`."""
    declared = collection.study.config.get("jobs", {}).get("cost_device")
    named = collection.runs["device_name"].dropna().mode()
    return str(declared or (named.iloc[0] if len(named) else "cpu"))


def expected_hours(collection: Collection, cells: pd.DataFrame, device: str | None = None) -> pd.DataFrame:
    """Return `hours`, `device` and `source` of each row of `cells`; hours are empty where nothing was measured.

    On the planning device, or another one.
    """
    device, config = device or planning_device(collection), collection.study.config
    n_items, limit = config["data"]["n_samples"], config["training"]["max_epochs"]
    table = _costs(collection, device, n_items)
    epochs = collection.runs.dropna(subset="epochs").groupby(["model", "task"])["epochs"].median().to_dict()
    found = [table.estimate(device, row["model"], row["task"], row["length"], limit, n_items,
                            epochs.get((row["model"], row["task"]))) for row in cells.to_dict("records")]
    rows = [(one.seconds / HOUR, device, one.source) if one else (None, None, None) for one in found]
    frame = pd.DataFrame(rows, columns=["hours", "device", "source"], index=cells.index)
    return frame.astype({"hours": "float64"})


def hours_by_device(collection: Collection) -> dict[str, pd.DataFrame]:
    """Hours of one cell of each `model, task, length` on every device of the cost table, the planning device first."""
    kinds = collection.cells[["model", "task", "length"]].drop_duplicates()
    known = sorted({row.device for row in cost_table().rows})
    devices = dict.fromkeys([planning_device(collection), *known])
    return {device: kinds.assign(hours=expected_hours(collection, kinds, device)["hours"]) for device in devices}


def _costs(collection: Collection, device: str, n_items: int) -> CostTable:
    """The cost table, and over it what the study's own results took on this device."""
    runs = collection.runs[(collection.runs["device_name"] == device) & (collection.runs["seconds_per_epoch"] > 0)]
    measured = [
        CostRow(device, model, task, int(length), statistics.median(seconds) * MEASURED_ITEMS / n_items, None,
                "results at hand")
        for (model, task, length), seconds in runs.groupby(["model", "task", "length"])["seconds_per_epoch"]
    ]
    return with_rows(cost_table(), measured)

"""What Snakemake's own linter finds is what docs/ecosystem.md names, with a reason each."""

import re
from pathlib import Path

from working_folder import ROOT, WorkingFolder


def test_the_linter_finds_what_the_docs_name(tmp_path: Path) -> None:
    linted = WorkingFolder.make(tmp_path / "checkout").run("--lint").text
    _, *parts = re.split(r"^Lints for \w+ (\S+) .*$", linted, flags=re.M)    # rule (or file), findings, rule, ...
    found = {(rule, finding) for rule, text in zip(parts[::2], parts[1::2], strict=True)
             for finding in re.findall(r"^    \* (.*?):?$", text, re.M)}
    table = re.findall(r"^\| (\w+) \| (.+?) \| .+ \|$", (ROOT / "docs/ecosystem.md").read_text(), re.M)
    assert found and found == {(rule, finding) for rule, finding in table if rule != "rule"}

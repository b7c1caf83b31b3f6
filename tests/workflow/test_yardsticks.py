"""What Snakemake's own linter finds is what docs/ecosystem.md names, with a reason each."""

import re
import subprocess
from pathlib import Path

from working_folder import ROOT, WorkingFolder

RULE, FINDING = re.compile(r"^Lints for (\w+) (\S+) "), re.compile(r"^    \* (.*?):?$")


def findings_of(text: str) -> set[tuple[str, str]]:
    """Rule (or file) and finding, of what the linter printed."""
    found, rule = set(), ""
    for line in text.splitlines():
        if match := RULE.match(line):
            rule = match[2]
        elif match := FINDING.match(line):
            found.add((rule, match[1]))
    return found


def test_the_linter_finds_what_the_docs_name(tmp_path: Path) -> None:
    space = WorkingFolder.make(tmp_path / "checkout")
    linted = subprocess.run(space.command("--lint"), cwd=space.folder, env=space.environment, text=True,
                            capture_output=True, timeout=200, check=False)
    table = re.findall(r"^\| (\w+) \| (.+?) \| .+ \|$", (ROOT / "docs/ecosystem.md").read_text(), re.M)
    named = {(rule, finding) for rule, finding in table if rule != "rule"}
    assert named
    assert findings_of(linted.stdout + linted.stderr) == named

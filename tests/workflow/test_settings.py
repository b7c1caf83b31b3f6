"""Every setting is explained, in one place, and editors check settings as the commands do."""

import json
import re
import runpy

import jsonschema
import pytest
import yaml
from working_folder import ROOT

from qablate.config import config_schema

FILES = [ROOT / "config.yaml", *sorted(ROOT.glob("workflow/studies/*.yaml"))]
FROM_CATALOG = ("tasks", "assign")


def test_page_and_editor_schema_are_those_of_the_schema() -> None:
    """If not: `.venv/bin/python docs/refresh_settings.py`."""
    for path, text in runpy.run_path(str(ROOT / "docs/refresh_settings.py"))["contents"]().items():
        assert path.read_text(encoding="utf-8") == text, path.name


def test_every_key_says_what_it_is_and_why() -> None:
    for key, rules in config_schema()["properties"].items():
        assert rules.get("description"), key
        for name, inner in rules.get("properties", {}).items() if key not in FROM_CATALOG else ():
            assert inner.get("description") and inner.get("reason"), f"{key}.{name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_editors_find_the_schema_and_what_it_refuses(path) -> None:
    named = re.match(r"# yaml-language-server: \$schema=(\S+)\n", path.read_text())
    assert named is not None
    schema = json.loads((path.parent / named[1]).read_text())
    settings = yaml.safe_load(path.read_text())
    jsonschema.validate(settings, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**settings, "training": {"patiense": 3}}, schema)

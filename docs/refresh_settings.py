"""Write what is known of every setting, for people (docs/settings.md) and for editors (docs/config.schema.json).

    .venv/bin/python docs/refresh_settings.py

Both come from the schema that every command checks settings with, and the defaults from config.yaml.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from qablate.config import config_schema, read_yaml

ROOT = Path(__file__).parents[1]
PAGE, EDITOR = ROOT / "docs/settings.md", ROOT / "docs/config.schema.json"
HEAD = (
    "# Settings\n\n"
    "Every key of `config.yaml`, as the published study has it. `.venv/bin/python docs/refresh_settings.py` writes "
    "this page from `src/qablate/schemas/config.schema.yaml`, which every command checks settings with: a misspelt key "
    "or a value that is not allowed is one line that names it. Overlays (`--configfile`) give only what they change; "
    "mappings are merged key by key, lists are replaced. A profile's own settings and `--config` count before all "
    "files. Each job reads the files when it starts, so leave them as they are under a running study. Editors with a "
    "YAML language server complete and check settings by `docs/config.schema.json`, which the first line of these "
    "files names.\n\n"
    "| key | default | unit | what it is | why this default | allowed |\n"
    "| --- | --- | --- | --- | --- | --- |\n"
)


def page(schema: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """The table of all settings as Markdown."""
    return HEAD + "".join(f"| {' | '.join(row)} |\n" for row in _rows(schema, schema, config, ""))


def _rows(schema: Mapping[str, Any], root: Mapping[str, Any], config: Mapping[str, Any],
          above: str) -> Iterator[tuple[str, ...]]:
    for key, found in schema["properties"].items():
        rules = {**_named(found, root), **found}
        section = "properties" in rules
        default = f"`{json.dumps(config[key])}`" if key in config and not section else ""
        yield (f"`{above}{key}`", default, rules.get("unit", ""), _sentence(rules.get("description", "")),
               _sentence(rules.get("reason", "")), "" if section else _allowed(rules))
        if section:
            yield from _rows(rules, root, config.get(key) or {}, f"{above}{key}.")


def _named(rules: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """The rules that a `$ref: "#/$defs/..."` stands for."""
    for part in rules.get("$ref", "#").split("/")[1:]:
        root = root[part]
    return root if "$ref" in rules else {}


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    return f"{text}." if text and not text.endswith(".") else text


def _allowed(rules: Mapping[str, Any]) -> str:
    """Type, limits or values of a setting."""
    if "enum" in rules:
        return ", ".join(f"`{value}`" for value in rules["enum"])
    kinds = rules.get("type", [])
    words = [" or ".join([kinds] if isinstance(kinds, str) else kinds)]
    words += [f"{sign} {rules[key]}" for key, sign in (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"),
                                                       ("exclusiveMaximum", "<")) if key in rules]
    return ", ".join(words)


def editor_schema(schema: Mapping[str, Any], config: Any) -> dict[str, Any]:
    """The schema for editors: with the defaults, and no key required, since an overlay gives only what it changes."""
    relaxed = {key: value for key, value in schema.items() if key != "required"}
    if "properties" in schema:
        known = config or {}
        relaxed["properties"] = {key: editor_schema(rules, known.get(key))
                                 for key, rules in schema["properties"].items()}
    elif config is not None:
        relaxed["default"] = config
    return relaxed


def contents() -> dict[Path, str]:
    """Both files as they are to be."""
    schema, config = config_schema(), read_yaml(ROOT / "config.yaml")
    editor = json.dumps(editor_schema(schema, config), indent=1, ensure_ascii=False)
    return {PAGE: page(schema, config), EDITOR: f"{editor}\n"}


if __name__ == "__main__":
    for path, text in contents().items():
        path.write_text(text, encoding="utf-8")

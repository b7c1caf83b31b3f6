"""Reading a study's settings: YAML files laid over each other, checked against a closed schema.

A misspelt key, a wrong type or a forbidden value is one line that names the key and what is allowed.
"""

import copy
import functools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import fastjsonschema
import platformdirs
import yaml

from qablate.catalog import MODELS, TAG, TASKS, TaskInfo
from qablate.errors import ConfigError, suggestion
from qablate.files import packaged_text
from qablate.records import canonical_json
from qablate.variants import check_variants, task_parameters

Config = dict[str, Any]
MAX_CONFIG_BYTES = 1_000_000
NAMES_NO_FILE = re.compile(r"[\x00\ud800-\udfff]")
EXPONENT = re.compile(r"[-+]?[0-9.]+[eE][-+]?[0-9]+")
PROFILE_FILE = re.compile(r"(profile|config)(\.v(?P<version>[0-9]+)\+)?\.yaml")

PUBLISHED_TRAINING = {"max_epochs": 100, "patience": 20, "batch_size": 32, "learning_rate": 1e-3, "weight_decay": 1e-4,
                      "clip_norm": 1.0}
"""The published recipe to the number; a study that changes one of them needs a recipe name of its own."""


class _PlainLoader(yaml.SafeLoader):
    """Safe YAML without aliases (nine lines of them can stand for a billion values) and without keys given twice."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "aliases are not read here", self.peek_event().start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key in [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key '{key.value}' is given twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def load_config(paths: Iterable[Path | str], overrides: Mapping[str, Any] | None = None) -> Config:
    """Read YAML files, each laid over those before it, then `overrides`; return the checked settings."""
    return check_config(merge(read_files(paths), overrides or {}))


def read_files(paths: Iterable[Path | str]) -> Config:
    """Read YAML files, each laid over those before it."""
    return functools.reduce(merge, (read_yaml(Path(path)) for path in paths), {})


def read_yaml(path: Path) -> Config:
    """Read one YAML file that holds a mapping."""
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise ConfigError(f"{path}: over {MAX_CONFIG_BYTES} bytes, no settings file is that long")
        content = yaml.load(path.read_text(encoding="utf-8"), _PlainLoader)
    except OSError as error:
        raise ConfigError(f"{path}: cannot read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError, LookupError, AttributeError) as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: must hold a mapping of settings, found {type(content).__name__}")
    return content


def profile_settings(profile: str) -> Config:
    """Return what a Snakemake profile (a name, folder or file, as Snakemake finds it) lays over a study's settings."""
    if profile in ("", "none"):
        return {}
    path = _profile_file(profile)
    settings = read_yaml(path).get("config") or {}
    if not isinstance(settings, dict):
        raise ConfigError(f"{path}: config must be a mapping of settings, found {type(settings).__name__}")
    return settings


def _profile_file(profile: str) -> Path:
    """What `snakemake.cli.get_profile_dir` finds; to import that asks Slurm, which may not answer."""
    dirs = platformdirs.AppDirs("snakemake", "snakemake")
    folders = [Path()] if Path(profile).exists() else [dirs.user_config_path, dirs.site_config_path]
    running = int(metadata.version("snakemake").split(".")[0])
    for path in (folder / profile for folder in folders):
        if path.is_file():
            return path
        named = ((int(match["version"] or 0), found) for found in path.glob("*.yaml")
                 if (match := PROFILE_FILE.fullmatch(found.name)))
        if suitable := [(version, found) for version, found in named if version <= running]:
            return max(suitable)[1]
    raise ConfigError(f"{profile}: no profile that Snakemake finds; looked in {', '.join(map(str, folders))}")


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> Config:
    """Lay `over` over `base`: mappings are merged key by key, everything else is replaced (Snakemake's rule)."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[key] = merge(old, value) if both else value  # type: ignore[arg-type]
    return merged


def difference(base: Mapping[str, Any], over: Mapping[str, Any]) -> Config:
    """Return the smallest settings that, laid over `base`, give `over`; the inverse of `merge`."""
    changed: Config = {}
    for key, value in over.items():
        old = base.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            if inner := difference(old, value):
                changed[key] = inner
        elif key not in base or old != value:
            changed[key] = value
    return changed


def leaves(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every setting that is no mapping with its whole key: `jobs.margin`, 5."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def options_of(files: Sequence[str], overrides: Mapping[str, Any]) -> list[str]:
    """Return the options of a command that mean these settings: files, and what is laid over them."""
    return [*(["--config", *files] if list(files) != ["config.yaml"] else []),
            *(["--set", canonical_json(overrides)] if overrides else [])]


def with_yaml_types(value: Any) -> Any:
    """Read the strings inside `value` as YAML: Snakemake keeps the 2024 of `--config seeds=[2024]` as text."""
    if isinstance(value, Mapping):
        return {key: with_yaml_types(item) for key, item in value.items()}
    if isinstance(value, list):
        return [with_yaml_types(item) for item in value]
    try:
        return yaml.safe_load(value) if isinstance(value, str) else value
    except (yaml.YAMLError, ValueError):    # of a date that does not exist the latter
        return value


def check_config(config: Mapping[str, Any]) -> Config:
    """Return `config` if it satisfies the schema and the rules that a schema cannot say; else raise ConfigError."""
    if isinstance(config.get("tasks"), Mapping):    # `forrelation: null` in an overlay takes a task out
        config = {**config, "tasks": {task: one for task, one in config["tasks"].items() if one is not None}}
    try:
        _validator()(_strict(config))
    except fastjsonschema.JsonSchemaValueException as error:
        raise ConfigError(_explained(error)) from error
    except (RecursionError, TypeError, ValueError) as error:
        raise ConfigError(f"settings cannot be checked: {error}") from error
    config = {**config, **{key: config.get(key) or {} for key in ("systems", "variants", "task_variants")}}
    if ".." in Path(config["results"]).parts:
        raise ConfigError(f"results: {config['results']!r} is not allowed: write the folder without '..'")
    check_variants(config)
    for name, settings in config["tasks"].items():
        parameters = task_parameters(config, name)
        for length in settings["lengths"]:
            if least := TASKS[name].too_short(length, parameters):
                raise ConfigError(f"tasks.{name}.lengths: {length} is shorter than {least}")
            if reason := TASKS[name].misfit(length, parameters):
                raise ConfigError(f"tasks.{name}: {reason}")
    training = config["training"]
    for key, published in PUBLISHED_TRAINING.items() if training["recipe"] == "published" else ():
        if training[key] != published:
            raise ConfigError(f"training.{key}: {training[key]} differs from the published {published}; "
                              "the recipe 'published' is frozen, give training.recipe another name")
    known, assign = known_systems(config), config["assign"]    # a misspelt one would leave its cells to nobody
    named = [(f"assign.{key}", value) for key, value in assign.items() if key != "overrides"]
    named += [(f"assign.overrides.{at}.system", rule["system"]) for at, rule in enumerate(assign.get("overrides", []))]
    for where, system in named:
        if system not in known:
            raise ConfigError(f"{where}: unknown system '{system}', {suggestion(system, known)}")
    return config


@functools.cache
def config_schema() -> dict[str, Any]:
    """Return the JSON Schema of a study's settings, with the ids and the task settings of the catalog."""
    schema: dict[str, Any] = yaml.safe_load(packaged_text("schemas/config.schema.yaml"))
    rules, named = schema["properties"], schema["$defs"]
    for kind, ids in (("model", MODELS), ("task", TASKS)):
        named[kind]["pattern"] = f"^({'|'.join(ids)})(-{TAG})*$"
    rules["tasks"]["properties"] = {name: _task_schema(info) for name, info in TASKS.items()}
    rules["tasks"]["patternProperties"] = {f"^{name}(-{TAG})+$": _task_schema(info) for name, info in TASKS.items()}
    rules["assign"]["properties"] |= {name: {"$ref": "#/$defs/name"} for name in TASKS}
    rules["task_variants"]["additionalProperties"]["properties"] = {
        name: {"type": "object", "additionalProperties": False, "minProperties": 1,
               "properties": {**info.settings, "n_train": {"$ref": "#/$defs/n_train"}}} for name, info in TASKS.items()}
    return schema


def _task_schema(info: TaskInfo) -> dict[str, Any]:
    settings = {"lengths": {"$ref": "#/$defs/lengths"}, **info.settings}
    return {"type": ["object", "null"], "additionalProperties": False, "required": ["lengths"], "properties": settings}


@functools.cache
def _validator() -> Callable[[Any], Any]:
    schema = copy.deepcopy(config_schema())    # compiling resolves references in place
    return fastjsonschema.compile({**schema, "$schema": "http://json-schema.org/draft-07/schema#"})


class _Fraction(float):
    """A number that JSON Schema takes for no integer: 100.0 would be another one in file names and hashes than 100."""

    def is_integer(self) -> bool:
        """Return False."""
        return False


@dataclass(frozen=True, repr=False)
class _NoNumber:
    """Stands for nan and infinities, which pass limits, and is of no type that a schema knows."""

    value: float

    def __repr__(self) -> str:
        return repr(self.value)


def _strict(value: Any, where: str = "settings") -> Any:
    """Return a copy of settings in which nothing passes for a number that is none, or for an integer.

    Raises ConfigError for a key that is no text, such as what YAML makes of `no` or `2024-01-01`.
    """
    if isinstance(value, Mapping):
        if other := [key for key in value if not isinstance(key, str)]:
            raise ConfigError(f"{where}: key {other[0]} must be text, write it in quotes")
        return {key: _strict(inner, f"{where}.{key}".removeprefix("settings.")) for key, inner in value.items()}
    if isinstance(value, list):
        return [_strict(inner, where) for inner in value]
    if isinstance(value, str) and (odd := NAMES_NO_FILE.search(value)):
        raise ConfigError(f"{where}: {value[:40]!r} holds {odd[0]!r}, which no file or command can have in its name")
    if isinstance(value, float):
        return _Fraction(value) if math.isfinite(value) else _NoNumber(value)
    return value


def _explained(error: fastjsonschema.JsonSchemaValueException) -> str:
    """Say one schema error as `key: found, allowed`."""
    where, rule, allowed, found = ".".join(error.path[1:]), error.rule, error.rule_definition, error.value
    prefix = f"{where}." if where else ""
    if rule == "propertyNames":
        rule, allowed = "pattern", allowed["pattern"]
        found = next(key for key in found if not re.search(allowed, key))
    if rule in ("additionalProperties", "required"):
        known = error.definition.get("properties", {})
        if unknown := [key for key in found if key not in known]:
            return f"{prefix}{unknown[0]}: unknown key, {suggestion(str(unknown[0]), known)}"
        overlay = "" if prefix else "; name the file that an overlay lies over before it"
        return f"{prefix}{next(key for key in allowed if key not in found)}: missing key{overlay}"
    if rule == "pattern" and (ids := re.match(r"\^\((.*)\)\(-", allowed)):    # a model or task
        return f"{where}: {found!r} is not allowed, one of {ids[1].replace('|', ', ')}, or a variant of one"
    if rule == "enum":
        return f"{where}: {_short(found)} is not allowed, one of {', '.join(map(str, allowed))}"
    if rule == "type":
        words = allowed if isinstance(allowed, str) else " or ".join(allowed)
        exponent = isinstance(found, str) and EXPONENT.fullmatch(found)
        hint = "; in YAML such a number has a point and a sign: 3.0e-4" if exponent else ""
        return f"{where or 'settings'}: {_short(found)} is not of type {words.replace('number', 'finite number')}{hint}"
    return f"{where}: {_short(found)} is not allowed ({rule}: {_short(allowed)})"


def _short(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:
        return "a number of thousands of digits"
    return text if len(text) <= 60 else f"{text[:57]}..."


def known_systems(config: Mapping[str, Any]) -> list[str]:
    """Return the systems that settings name, each once: in the order of sources, with a results folder, this one."""
    return list(dict.fromkeys([*config["import"]["source_order"], *config["systems"], config["system"]]))

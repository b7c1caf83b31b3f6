"""Variants of models and tasks: the token `1b-tanh-chunk8` is 1b with what the tags `tanh` and `chunk8` change.

Layer 0. A study declares tags (`variants` of models, `task_variants`); the token of a base is its id.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from qablate.catalog import AS_PUBLISHED, MODELS, TASKS, model_info, task_info
from qablate.errors import ConfigError, suggestion

Config = Mapping[str, Any]
PARTS = ("model", "training")
LONGEST = 80


def split_token(token: str) -> tuple[str, tuple[str, ...]]:
    """Return base and tags of a token: `1b-tanh-chunk8` gives `1b` and (`tanh`, `chunk8`)."""
    base, *tags = token.split("-")
    return base, tuple(tags)


def join_token(base: str, tags: Sequence[str]) -> str:
    """Return the token of a base and tags; the inverse of `split_token`."""
    return "-".join([base, *tags])


def is_variant(token: str) -> bool:
    """Whether a token has a tag."""
    return "-" in token


def labelled(token: str) -> str:
    """Return a model's id with the users' notation, `1b Q→C`; a variant's token alone, whose tags may change that."""
    return token if is_variant(token) else f"{token} {model_info(token).notation}"


def model_changes(config: Config, token: str, part: str, length: int | None = None) -> dict[str, Any]:
    """Return the settings that a model's tags change in a part, `model` or `training`; empty for a base.

    A chunk given as a share of the length (`L/4`) is whole steps where `length` is given.
    """
    changed = _changes(config, "variants", token, part)
    if length is not None and isinstance(chunk := changed.get("chunk"), str):
        changed["chunk"] = length // int(chunk.removeprefix("L/"))
    return changed


def task_changes(config: Config, token: str) -> dict[str, Any]:
    """Return the parameters that a task's tags change; empty for a base."""
    return _changes(config, "task_variants", token, split_token(token)[0])


def _changes(config: Config, kind: str, token: str, part: str) -> dict[str, Any]:
    changed: dict[str, Any] = {}
    for tag in _declared(config, kind, token):
        changed |= config[kind][tag].get(part, {})
    return changed


def _declared(config: Config, kind: str, token: str, where: str = "") -> tuple[str, ...]:
    """The tags of a token; a ConfigError for one that the study does not declare."""
    tags, declared = split_token(token)[1], config[kind]
    for tag in tags:
        if tag not in declared:
            raise ConfigError(f"{where}{token}: unknown tag '{tag}', {suggestion(tag, declared)}")
    return tags


def task_parameters(config: Config, token: str) -> dict[str, Any]:
    """Return the parameters of a task of the study: published, over them its own settings, over them its tags'."""
    own = {key: value for key, value in config["tasks"][token].items() if key != "lengths"}
    return {**task_info(token).parameters, **own, **task_changes(config, token)}


def recipe_of(config: Config, token: str) -> str:
    """Return the recipe of a model: the study's, with the tags that change the training: `published+lr3e4`."""
    tags = [tag for tag in _declared(config, "variants", token) if "training" in config["variants"][tag]]
    return "+".join([config["training"]["recipe"], *tags])


def described(config: Config, token: str, kind: str, length: int) -> dict[str, Any] | None:
    """Return what a record says of a variant: base, tags and the settings they change; None for a base.

    `kind`: `models` or `tasks`.
    """
    base, tags = split_token(token)
    if not tags:
        return None
    settings = task_changes(config, token) if kind == "tasks" else {
        f"{part}.{key}": value for part in PARTS for key, value in model_changes(config, token, part, length).items()}
    return {"base": base, "tags": list(tags), "settings": settings}


def check_variants(config: Config) -> None:
    """Refuse models and tasks of a study that its tags do not make; the ConfigError says what to write instead."""
    named = [*((f"models.{at}", "models", token) for at, token in enumerate(config["models"])),
             *(("tasks", "tasks", token) for token in config["tasks"])]
    for at, rule in enumerate(config["import"]["quarantine"]):
        named += [(f"import.quarantine.{at}.{key}", f"{key}s", rule[key]) for key in ("model", "task") if key in rule]
    for at, rule in enumerate(config["assign"].get("overrides", [])):
        named += [(f"assign.overrides.{at}.{key}", key, token) for key in ("models", "tasks")
                  for token in rule.get(key, [])]
    for where, key, token in named:
        _check_token(config, where, token, *((MODELS, "variants") if key == "models" else (TASKS, "task_variants")))
    for at, token in enumerate(config["models"]):
        _check_model(config, f"models.{at}: {token}", token)
    for token in config["tasks"]:
        _check_task(config, f"tasks.{token}", token)


def _check_token(config: Config, where: str, token: str, bases: Mapping[str, Any], kind: str) -> None:
    base, tags = split_token(token)
    if base not in bases:
        raise ConfigError(f"{where}: {token!r} is not allowed, one of {', '.join(bases)}")
    _declared(config, kind, token, f"{where}: ")
    if len(token) > LONGEST:
        raise ConfigError(f"{where}: {token[:20]}...: {len(token)} characters, in file names {LONGEST} are allowed")
    order = [tag for tag in config[kind] if tag in tags]
    if list(tags) != order:
        raise ConfigError(f"{where}: {token}: write {join_token(base, order)}, each tag once and in declared order")


def _check_model(config: Config, where: str, token: str) -> None:
    base, tags = split_token(token)
    info, setter = model_info(base), dict[str, str]()
    published = {"model": {**config["model"], **AS_PUBLISHED, "chunk": info.chunk}, "training": config["training"]}
    for tag in tags:
        for part, settings in config["variants"][tag].items():
            for key, value in settings.items():
                _require_change(where, base, tag, key, value, published[part][key], setter)
                if reason := info.ignores(key):
                    raise ConfigError(f"{where}: tag '{tag}' has no effect, {reason}")
    model = {**config["model"], **model_changes(config, token, "model")}
    shortest = min(length for settings in config["tasks"].values() for length in settings["lengths"])
    if isinstance(chunk := model.get("chunk"), str) and shortest < int(chunk.removeprefix("L/")):
        raise ConfigError(f"{where}: tag '{setter['chunk']}': chunk {chunk} of {shortest} steps is less than one step")
    if model["d_model"] % 8 or model["d_model"] % model["n_heads"]:
        named = f"{where}: d_model" if tags else "model.d_model:"
        raise ConfigError(f"{named} {model['d_model']} must be a multiple of 8 and of n_heads ({model['n_heads']})")


def _check_task(config: Config, where: str, token: str) -> None:
    base, tags = split_token(token)
    own = {key: where for key in config["tasks"][token] if key != "lengths"} if tags else {}
    published = {**TASKS[base].parameters, "n_train": config["data"]["n_samples"] * 8 // 10}
    for tag in tags:
        if base not in config["task_variants"][tag]:
            raise ConfigError(f"{where}: tag '{tag}' has no effect, it says nothing of {base}")
        for key, value in config["task_variants"][tag][base].items():
            _require_change(where, base, tag, key, value, published[key], own)
    if (n_train := task_changes(config, token).get("n_train", math.inf)) < published["n_train"]:
        raise ConfigError(f"{where}: n_train {n_train} is below the {published['n_train']} of the base")


def _require_change(where: str, base: str, tag: str, key: str, value: Any, published: Any,
                    setter: dict[str, str]) -> None:
    """Refuse a tag whose value is the base's, or of a key that another tag sets; notes who sets it."""
    if key in setter:
        raise ConfigError(f"{where}: '{setter[key]}' and '{tag}' both set {key}")
    if value == published:
        raise ConfigError(f"{where}: tag '{tag}' changes nothing, {key} of {base} is {value} already")
    setter[key] = tag

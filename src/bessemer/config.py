"""From a recipe (YAML) and `key=value` to the dataclass that a stage runs with.

One mechanism: a stage's `Config` is a flat dataclass beside the stage, with a default for every field and a
    docstring under it. A recipe
is one flat YAML file: `name`, `output_dir`, `seed`, the ordered list `stages`, keys that all stages share,
and a mapping for each section. A section is a stage's verb, or another name with `stage: VERB` inside. The
later wins: the class's default, the recipe's top-level key, the section's key, the command line. A key that
nobody knows is an error that names the nearest, never ignored.
"""

from __future__ import annotations

import dataclasses
import re
import reprlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import yaml

from . import fields
from .assets import is_plausible
from .errors import UserError
from .fields import Artifact, declared_fields, field_docs, field_types, nearest, plain_type

__all__ = [
    "ALIASES", "Artifact", "artifacts", "canonical", "check_keys", "declared_fields", "dump", "field_docs",
    "help_text", "load", "order", "read_recipe", "section_directory", "sections", "split_override",
]  # fmt: skip

T = TypeVar("T")

ALIASES = {
    "base_model": "model_name_or_path",
    "batch_size": "per_device_train_batch_size",
    "micro_batch_size": "per_device_train_batch_size",
    "eval_batch_size": "per_device_eval_batch_size",
    "grad_accum": "gradient_accumulation_steps",
    "epochs": "num_train_epochs",
    "num_epochs": "num_train_epochs",
    "lr": "learning_rate",
    "lora_r": "lora_rank",
    "lora_target_modules": "lora_target",
    "target_modules": "lora_target",
    "max_length": "cutoff_len",
    "max_seq_length": "cutoff_len",
    "sequence_len": "cutoff_len",
    "dataset_name": "dataset",
    "tuner_type": "finetuning_type",
    "max_new_tokens": "response_length",
    "clip_range": "cliprange",
    "clip_range_value": "cliprange_value",
    "init_kl_coef": "kl_coef",
    "value_coef": "vf_coef",
    "gae_lambda": "lam",
    "max_norm": "max_grad_norm",
}
"""Names that other tools use -> ours; taken where the stage has our name and not theirs."""

_RECIPE_KEYS = ("name", "output_dir", "seed", "stages")
_MAX_BYTES = 1_000_000
_FILE_NAME = re.compile(r"(?!-)[\w-]{1,64}")
_OVERRIDE = re.compile(r"([^\W\d][\w.-]*)=(.*)", re.DOTALL)


def read_recipe(path: str | Path) -> dict[str, Any]:
    """The recipe in a YAML file; `name` is the file's stem when it has none.

    Raises:
        UserError: `file:line: ...` for unreadable YAML, a repeated key, or something other than a mapping.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
        text = data.decode("utf-8")
    except OSError as error:
        raise UserError(f"recipe {path} could not be read ({error.strerror}), expected a YAML file") from error
    except UnicodeDecodeError as error:
        raise UserError(f"recipe {path} is not UTF-8 text, expected a YAML file; save it as UTF-8") from error
    if len(data) > _MAX_BYTES:
        raise UserError(f"recipe {path} has {len(data)} bytes, expected a YAML file of at most {_MAX_BYTES}")
    try:
        _refuse_repeated_keys(yaml.compose(text, yaml.SafeLoader), path)
        recipe = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
        line = f":{mark.line + 1}" if mark else ""
        reason = error.problem if isinstance(error, yaml.MarkedYAMLError) else str(error)
        raise UserError(f"{path}{line}: {reason}, expected YAML") from error
    if not isinstance(recipe, dict) or not all(isinstance(key, str) for key in recipe):
        raise UserError(f"{path}: expected a mapping of names to values, such as `name: solar`")
    recipe.setdefault("name", path.stem)
    return recipe


def order(recipe: Mapping[str, Any]) -> list[str]:
    """The sections to run, in order: `stages`, or every section as the file has them.

    Raises:
        UserError: `stages` is not a list of different names.
    """
    listed = recipe.get("stages")
    if listed is None:
        return _mappings(recipe)
    if isinstance(listed, str):
        listed = [part.strip() for part in listed.strip("[] ").split(",")]
    names = isinstance(listed, list) and all(isinstance(name, str) for name in listed)
    if not names or len(set(listed)) != len(listed):
        raise UserError(
            f"stages is {reprlib.repr(listed)}, expected a list of different sections, such as [import, sft]"
        )
    return list(listed)


def sections(recipe: Mapping[str, Any]) -> dict[str, str]:
    """Section name -> verb of its stage: those of `stages` in that order, then the others of the file.

    Raises:
        UserError: see `order`; a section is not a mapping or has a name that no directory should have.
    """
    verbs: dict[str, str] = {}
    for name in dict.fromkeys([*order(recipe), *_mappings(recipe)]):
        _check_name(name, "section")
        verb = _section(recipe, name).get("stage", name)
        if not isinstance(verb, str):
            raise UserError(f"{name}.stage is {reprlib.repr(verb)}, expected the verb of a stage")
        verbs[name] = verb
    return verbs


def section_directory(recipe: Mapping[str, Any], section: str) -> str:
    """Where a section writes: its own `output_dir`, or <output_dir>/<name>/<section>."""
    own = _section(recipe, section).get("output_dir")
    if own is not None:
        return _text(own, f"{section}.output_dir")
    root, name = _text(recipe.get("output_dir", "runs"), "output_dir"), _text(recipe.get("name", ""), "name")
    if name:
        _check_name(name, "name")
    return str(Path(root, name, section))


def canonical(key: str, names: Collection[str]) -> str | None:
    """The field that `key` means, itself or by alias; None when there is none. `weights.a` means an entry of
    the field `weights`."""
    key = key.replace("-", "_") if key not in names else key
    head, dot, tail = key.partition(".")
    if head in names:
        return key
    other = ALIASES.get(head)
    return f"{other}{dot}{tail}" if other in names else None


def load(cls: type[T], recipe: Mapping[str, Any], section: str, overrides: Sequence[str] = ()) -> T:
    """The configuration of one section.

    An Artifact that names another section becomes that section's directory. One that may be None and whose
    default names a section that this recipe does not have is None.

    Args:
        cls: the stage's `Config`.
        recipe: as from `read_recipe`; {} for a verb without one.
        section: the section's name, in messages and as the last part of the directory.
        overrides: `key=value`, the value read by the type of its field; of a list that is given several times
            the values in their order.

    Raises:
        UserError: a key that the class does not have, the same field twice, or a value of another type.
    """
    kinds, defaults = field_types(cls), cls()
    layers = [
        ("the recipe", _shared(recipe, kinds)),
        (
            f"section {section}",
            {key: value for key, value in _section(recipe, section).items() if key != "stage"},
        ),
        ("the command line", _gathered(overrides, kinds, section)),
    ]
    values: dict[str, Any] = {}
    for source, layer in layers:
        named = _by_field(layer, kinds, section, source)
        for key in sorted(named, key=lambda key: "." in key):  # `weights.a` amends `weights`, from wherever that came
            head, dot, tail = key.partition(".")
            value = fields.coerce({tail: named[key]} if dot else named[key], kinds[head], f"{section}.{key}")
            before = values.get(head, getattr(defaults, head)) if dot else None
            values[head] = {**(before or {}), **value} if dot else value
    if "output_dir" in kinds and not plain_type(kinds["output_dir"])[1] and not values.get("output_dir"):
        own = "" if recipe.get("name") else str(getattr(defaults, "output_dir", ""))
        values["output_dir"] = own or section_directory(recipe, section)
    names = sections(recipe)
    for name in filter(lambda name: _is_artifact(kinds[name]), kinds):
        value = values.get(name, getattr(defaults, name))
        absent = name not in values and isinstance(value, str) and value not in names
        if absent and plain_type(kinds[name])[1] and not is_plausible(value):
            value = None  # an optional input from a stage that this recipe does not have
        listed = isinstance(value, list)
        found = [_resolve(item, names, recipe) for item in (value if listed else [value])]
        values[name] = found if listed else found[0]
    return cls(**values)


def check_keys(recipe: Mapping[str, Any], known: Collection[str], verbs: Collection[str]) -> None:
    """Refuse top-level keys that nobody reads.

    Args:
        known: the fields of all stages.
        verbs: the stages; a mapping that is neither listed in `stages`, nor named like one of them, nor says
            `stage: VERB` is no section.
    """
    listed = order(recipe)
    for key, value in recipe.items():
        head, _, rest = str(key).partition(".")
        if rest and (head in listed or head in verbs):  # the command line's way of writing it
            raise UserError(f"{key!r} is not a key of a recipe, expected {rest!r} inside the section {head!r}")
        section = key in listed or (isinstance(value, Mapping) and (key in verbs or "stage" in value))
        if not section and key not in _RECIPE_KEYS and canonical(key, known) is None:
            raise UserError(
                f"{key!r} is not a key of a recipe, expected a section or a field of a stage"
                f"{nearest(key, [*_RECIPE_KEYS, *listed, *verbs, *known, *ALIASES])}"
            )


def split_override(text: str) -> tuple[str, str]:
    """`key=value` -> (key, value)."""
    match = _OVERRIDE.fullmatch(text)
    if match is None:
        raise UserError(f"{text!r} is not an override, expected key=value")
    return match[1], match[2]


def dump(config: Any) -> str:
    """The configuration as YAML: what `load` reads back to an equal one."""
    text: str = yaml.safe_dump(dataclasses.asdict(config), sort_keys=False, allow_unicode=True, width=110)
    return text


def artifacts(config: Any) -> dict[str, str]:
    """Field -> value of every non-empty Artifact; the entries of a list are named `field.0`, `field.1` ..."""
    found: dict[str, str] = {}
    for name, kind in field_types(type(config)).items():
        value = getattr(config, name)
        if _is_artifact(kind) and value:
            entries = {name: value} if isinstance(value, str) else {f"{name}.{i}": item for i, item in enumerate(value)}
            found |= {key: str(entry) for key, entry in entries.items() if entry}
    return found


def help_text(cls: type) -> str:
    """Every field of a stage with its default, its type, its meaning and the other names it is known by."""
    names = field_types(cls)
    also = {field: [old for old, new in ALIASES.items() if new == field and old not in names] for field in names}
    return fields.help_text(cls, also)


def _mappings(recipe: Mapping[str, Any]) -> list[str]:
    return [key for key, value in recipe.items() if isinstance(value, Mapping) and key not in _RECIPE_KEYS]


def _section(recipe: Mapping[str, Any], section: str) -> Mapping[str, Any]:
    """The mapping of a section; an absent or empty one is {}."""
    value = recipe.get(section)
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise UserError(f"section {section} has a key that is not text, expected names of fields")
        return value
    if value is not None and section in order(recipe):
        raise UserError(f"section {section} is {reprlib.repr(value)}, expected a mapping of fields to values")
    return {}


def _shared(recipe: Mapping[str, Any], kinds: Mapping[str, Any]) -> dict[str, Any]:
    """Top-level keys that this class has; not `output_dir` (a root there, a directory here), not sections
    named like a field."""
    names = sections(recipe)
    return {
        key: value
        for key, value in recipe.items()
        if key not in ("name", "output_dir", "stages")
        and canonical(key, kinds) is not None
        and (key not in names or get_origin(plain_type(kinds.get(key))[0]) is dict)
    }


def _gathered(overrides: Sequence[str], kinds: Mapping[str, Any], section: str) -> dict[str, Any]:
    """Overrides by field; a list that is given several times (`--image a --image b`) is joined."""
    found: dict[str, Any] = {}
    for key, value in map(split_override, overrides):
        name = canonical(key, kinds) or key
        if name in found:
            where, kind = f"{section}.{name}", kinds.get(name)
            if get_origin(plain_type(kind)[0]) is not list:
                raise UserError(f"{where} is given twice in the command line, expected it once; keep one")
            both = (fields.coerce(found[name], kind, where), fields.coerce(value, kind, where))
            found[name] = [item for some in both for item in some or ()]
        else:
            found[name] = value
    return found


def _by_field(layer: Mapping[str, Any], kinds: Mapping[str, Any], section: str, source: str) -> dict[str, Any]:
    named: dict[str, Any] = {}
    for key, value in layer.items():
        name = canonical(key, kinds)
        if name is None or ("." in name and get_origin(plain_type(kinds[name.partition(".")[0]])[0]) is not dict):
            known = [*kinds, *(old for old, new in ALIASES.items() if new in kinds)]
            raise UserError(f"{section} has no field {key!r} (from {source}){nearest(key, known)}")
        if name in named:
            raise UserError(f"{section}.{name} is given twice in {source}, as {key!r} and under another name; keep one")
        named[name] = value
    return named


def _is_artifact(kind: Any) -> bool:
    inner, _ = plain_type(kind)
    return inner is Artifact or (get_origin(inner) is list and get_args(inner) == (Artifact,))


def _resolve(value: str | None, names: Collection[str], recipe: Mapping[str, Any]) -> str | None:
    """A section's name (`sft`), or something in it (`sft/model`), as a path in that section's directory;
    anything else as it is."""
    head, slash, rest = (value or "").partition("/")
    return section_directory(recipe, head) + slash + rest if head in names else value


def _check_name(name: str, what: str) -> None:
    if not _FILE_NAME.fullmatch(name):
        raise UserError(
            f"{what} {name!r} cannot name a directory, "
            "expected up to 64 letters, digits, - and _, the first a letter or digit"
        )


def _text(value: Any, where: str) -> str:
    return str(fields.coerce(value, str, where))


def _refuse_repeated_keys(root: yaml.Node | None, path: Path) -> None:
    """YAML lets a later key silently win over an earlier one of the same name; in a recipe that is a slip."""
    pending, seen = [root], set()
    while pending:
        node = pending.pop()
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            keys: set[str] = set()
            for key, value in node.value:
                pending.append(value)
                if not isinstance(key, yaml.ScalarNode):
                    continue
                if key.value in keys:
                    line = key.start_mark.line + 1
                    raise UserError(f"{path}:{line}: the key {key.value!r} stands here twice, expected it once")
                keys.add(key.value)
        elif isinstance(node, yaml.SequenceNode):
            pending.extend(node.value)

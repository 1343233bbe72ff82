"""The command `bessemer`: verbs, flat recipes, `key=value`.

Exit codes: 0 done; 1 a defect (the traceback is in the stage's directory); 2 input that cannot be used; 75
stopped by a signal with the state saved, the same command goes on; 130 stopped at once by a second Ctrl-C.
"""

from __future__ import annotations

import io
import os
import re
import sys
import textwrap
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_origin

import yaml

from . import __version__, interrupts
from .config import canonical, help_text, read_recipe
from .errors import Defect, Stopped, UserError
from .fields import field_types, nearest, plain_type
from .memory import keep_memory
from .stages import STAGES

__all__ = ["main"]

_OVERRIDE = re.compile(r"[^\W\d][\w.-]*=")
_RUN_HELP = """\
usage: bessemer run RECIPE [section.key=value | key=value ...]
       [--until SECTION] [--only SECTION] [--force SECTION]

The sections of a recipe in order. Those whose configuration and inputs have not
changed are skipped; one that was stopped goes on where it was.

  section.key=value  a field of one section; `bessemer VERB --help` lists a
                     stage's fields
  key=value          a field of every section that has it; name, output_dir and
                     stages are the recipe's own
  --until SECTION    stop after this one
  --only SECTION     run this one alone
  --force SECTION    run it again though nothing has changed; the result so far
                     is kept as SECTION.old-1"""
_STAGE_OPTIONS = """  RECIPE      a YAML file whose section of this name gives the fields; the
              result goes where `bessemer run RECIPE` puts it. None: the
              defaults below
  --force     run it again though nothing has changed; what was there is kept
  --from DIR  with the configuration that the stage in DIR was made with

"""
_RECIPE_ALONE = """  RECIPE      a YAML file whose section of this name gives the fields

"""


@dataclass
class _Words:
    """The words of a command, sorted."""

    places: list[str] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)
    options: dict[str, list[str]] = field(default_factory=dict)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal without Chinese must not end a run
    keep_memory()
    try:
        _dispatch(list(sys.argv[1:] if arguments is None else arguments))
        return 0
    except (UserError, Stopped) as error:
        print(f"bessemer: {error}", file=sys.stderr)
        return error.exit_code
    except Defect as error:
        print(f"bessemer: {error} (traceback: {error.traceback_file})", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # `bessemer --help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("\nbessemer: stopped at once; what was not saved is lost", file=sys.stderr)
        return 130
    except Exception as error:  # outside any stage's directory, so the traceback goes where it can be seen
        traceback.print_exc()
        print(f"bessemer: {type(error).__name__}: {error}", file=sys.stderr)
        return Defect.exit_code
    finally:
        interrupts.release()


def _dispatch(words: list[str]) -> None:
    verb = words[0] if words else "--help"
    if verb in ("--help", "-h", "help"):
        print(_overview())
    elif verb == "--version":
        print(f"bessemer {__version__}")
    elif verb == "run":
        _run(words[1:])
    elif verb in STAGES:
        _stage(verb, words[1:])
    else:
        verbs = ["run", *STAGES]
        raise UserError(f"there is no verb {verb!r}, expected one of {', '.join(verbs)}{nearest(verb, verbs)}")


def _overview() -> str:
    rows = {"run": "the whole loop of a recipe"} | {verb: stage.summary for verb, stage in STAGES.items()}
    width = max(map(len, rows))
    verbs = "\n".join(f"  {verb:{width}}  {summary}" for verb, summary in rows.items())
    return (
        f"usage: bessemer VERB [RECIPE] [key=value ...]\n\n{verbs}\n\n"
        "`bessemer VERB --help` shows every field with its default and meaning."
    )


def _run(words: list[str]) -> None:
    found = _sort(words, {}, takes=("until", "only", "force"))
    if "help" in found.options:
        print(_RUN_HELP)
        return
    if len(found.places) != 1:
        raise UserError(f"{len(found.places)} recipes, expected one: bessemer run RECIPE [key=value ...]")
    # PyTorch takes seconds to import; the help and a slip in the command should not wait for it.
    from .loop import run_recipe

    interrupts.catch()
    run_recipe(
        found.places[0],
        found.overrides,
        until=_once(found, "until"),
        only=_once(found, "only"),
        force=found.options.get("force", []),
    )


def _stage(verb: str, words: list[str]) -> None:
    stage = STAGES[verb]
    config_class = stage.load().Config
    positional: tuple[str, ...] = getattr(config_class, "POSITIONAL", ())
    found = _sort(words, field_types(config_class), takes=("from",), flags=("force",))
    if "help" in found.options:
        print(_stage_help(verb, config_class, positional))
        return
    recipe: Mapping[str, Any] = {}
    places = found.places
    own = "recipe" in positional  # the verb reads the recipe itself
    if places and (not positional or (not own and places[0].endswith((".yaml", ".yml")) and Path(places[0]).is_file())):
        recipe = read_recipe(places.pop(0))
    if (replayed := _once(found, "from")) is not None:
        if recipe:
            raise UserError(f"a recipe and --from, expected one of them: bessemer {verb} --from DIR")
        recipe = {verb: _replayed(Path(replayed), verb, field_types(config_class))}
    overrides = found.overrides + _placed(verb, config_class, positional, places)
    from .loop import run_section, single  # see _run

    section = single(verb, recipe, overrides)
    if not stage.in_recipe:
        section.run(section.config)
        return
    interrupts.catch()
    run_section(section, force="force" in found.options)
    print(section.directory)


def _gathers(config_class: type, positional: Sequence[str]) -> bool:
    """Whether the last positional field is a list, which takes all the words that remain."""
    return bool(positional) and get_origin(plain_type(field_types(config_class)[positional[-1]])[0]) is list


def _placed(verb: str, config_class: type, positional: Sequence[str], places: Sequence[str]) -> list[str]:
    """The words that stand alone, as overrides of the positional fields."""
    single = positional
    gathered: list[str] = []
    if _gathers(config_class, positional):
        single = positional[:-1]
        words = list(places[len(single) :])
        # As YAML, so that a comma or a bracket in a file's name stays one.
        text = yaml.safe_dump(words, default_flow_style=True, width=float("inf")).strip()
        gathered = [f"{positional[-1]}={text}"] if words else []
    elif len(places) > len(positional):
        excess = places[len(positional)]
        raise UserError(f"{excess!r} is one word too many, expected key=value (bessemer {verb} --help)")
    return [f"{name}={text}" for name, text in zip(single, places, strict=False)] + gathered


def _stage_help(verb: str, config_class: type, positional: Sequence[str]) -> str:
    stage = STAGES[verb]
    gathers = _gathers(config_class, positional)
    places = "".join(f" [{name}{' ...' if gathers and name == positional[-1] else ''}]" for name in positional)
    options = f" [--force]\n       bessemer {verb} --from DIR [key=value ...]" if stage.in_recipe else ""
    recipe = "" if "recipe" in positional else " [RECIPE]"  # such a verb reads it by itself
    explained = _STAGE_OPTIONS if stage.in_recipe else _RECIPE_ALONE if recipe else ""
    usage = textwrap.fill(
        f"usage: bessemer {verb}{recipe}{places} [key=value | --key value ...]", 80, subsequent_indent=" " * 7
    )
    return f"{usage}{options}\n\n{stage.summary}\n\n{explained}{help_text(config_class)}"


def _replayed(directory: Path, verb: str, kinds: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration that a stage's directory was made with."""
    from .manifest import read_manifest  # see _run

    manifest = read_manifest(directory)
    if manifest is None:
        raise UserError(f"{directory} holds no manifest.json, expected the directory of a stage")
    if manifest["stage"] != verb:
        raise UserError(f"{directory} was made by {manifest['stage']!r}, expected {verb!r}")
    values = read_recipe(directory / "config.yaml")
    return {name: value for name, value in values.items() if name != "name" or "name" in kinds}


def _sort(words: Sequence[str], kinds: Mapping[str, Any], *, takes: Sequence[str], flags: Sequence[str] = ()) -> _Words:
    """`key=value`, `--key=value`, `--key value` and `--flag` are overrides; after `--` every word is a place.

    Args:
        kinds: field -> type, to know which fields are flags.
        takes: options with a value that are not fields; `flags`: those without.
    """
    found, rest = _Words(), list(words)
    while rest:
        word = rest.pop(0)
        name, given, value = word[2:].partition("=")
        if word == "--":
            found.places += rest
            break
        if word in ("-h", "--help"):
            found.options["help"] = []
        elif not word.startswith("--"):
            (found.overrides if _OVERRIDE.match(word) else found.places).append(word)
        elif name in flags and not given:
            found.options[name] = []
        elif name in takes:
            found.options.setdefault(name, []).append(value if given else _value(name, rest, kinds))
        else:
            found.overrides.append(f"{name}={value if given else _value(name, rest, kinds)}")
    return found


def _value(name: str, rest: list[str], kinds: Mapping[str, Any]) -> str:
    """The word after `--name`, taken from `rest`; `true` for a field that is true or false and stands
    alone."""
    known = canonical(name, kinds)
    is_flag = known is not None and plain_type(kinds.get(known))[0] is bool
    if is_flag and (not rest or rest[0].lower() not in ("true", "false", "yes", "no", "on", "off")):
        return "true"
    if not rest or rest[0].startswith("--"):
        raise UserError(f"--{name} stands alone, expected a value after it")
    return rest.pop(0)


def _once(found: _Words, option: str) -> str | None:
    values = found.options.get(option, [])
    if len(values) > 1:
        raise UserError(f"--{option} is given {len(values)} times, expected it once")
    return values[0] if values else None


if __name__ == "__main__":
    sys.exit(main())

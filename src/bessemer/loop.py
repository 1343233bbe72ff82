"""The closed loop: a recipe's sections in order, each skipped when nothing that it depends on has changed.

Every section's configuration is built before the first does any work, so a slip in the last line of a recipe
costs no hours. Sections hand one another directories; a section is current when it finished with the same
configuration and with inputs of the same contents.
"""

from __future__ import annotations

import gc
import time
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from . import interrupts
from .assets import is_plausible
from .config import (
    artifacts,
    canonical,
    check_keys,
    load,
    order,
    read_recipe,
    section_directory,
    sections,
    split_override,
)
from .disk import move_aside, write_atomic
from .errors import Defect, Stopped, UserError
from .fields import declared_fields, field_types, nearest
from .manifest import content_hash, fingerprint, is_current, is_stage, parent_paths, read_manifest
from .memory import give_memory_back
from .progress import clock
from .stages import STAGES
from .stages.begin import faults_of

__all__ = ["Section", "check_recipe", "plan", "run_recipe", "run_section", "single"]

_OF_THE_RECIPE = ("name", "output_dir", "stages")  # every other override belongs to sections


@dataclass(frozen=True)
class Section:
    """One stage of a recipe, ready to run."""

    name: str
    stage: str
    config: Any
    run: Callable[[Any], Path]

    @property
    def directory(self) -> Path:
        """Where it writes."""
        return Path(self.config.output_dir)


def check_recipe(recipe: Mapping[str, Any]) -> None:
    """Refuse a top-level key that no stage reads; imports no stage."""
    known = {name for stage in STAGES.values() for name in declared_fields(stage.module)}
    check_keys(recipe, known, STAGES)


def plan(recipe: Mapping[str, Any], overrides: Sequence[str] = (), extra: Collection[str] = ()) -> list[Section]:
    """Every section of `stages` (then those in `extra`) with its configuration.

    Args:
        overrides: `section.key=value` for one section; `key=value` for every section that has the key;
            `name`, `output_dir` and `stages` for the recipe itself. They win over whatever the recipe says.

    Raises:
        UserError: every fault found, one a line.
    """
    mine = [pair for pair in map(split_override, overrides) if pair[0] in _OF_THE_RECIPE]
    for key in dict(mine):
        if sum(key == other for other, _ in mine) > 1:
            raise UserError(f"{key} is given twice in the command line, expected it once; keep one")
    recipe = {**recipe, **dict(mine)}
    check_recipe(recipe)
    modules = _modules(recipe, extra)
    given = _distribute(overrides, {name: field_types(module.Config) for name, module in modules.items()})
    for name in modules:
        if "output_dir" in given[name]:  # the sections that read from this one must know of it
            recipe[name] = {**(recipe.get(name) or {}), "output_dir": given[name]["output_dir"][-1]}
    verbs = sections(recipe)
    planned: list[Section] = []
    faults: list[str] = []
    names = list(modules)
    for place, (name, module) in enumerate(modules.items()):
        try:
            own = [f"{key}={value}" for key, values in given[name].items() for value in values]
            config = load(module.Config, recipe, name, own)
            faults += _unusable_inputs(name, config, recipe, before=names[:place])
            faults += [f"{name}.{fault}" for fault in faults_of(config)]
            planned.append(Section(name, verbs[name], config, module.run))
        except UserError as error:
            faults.append(str(error))
    if faults:
        raise UserError("\n".join(faults))
    return planned


def single(verb: str, recipe: Mapping[str, Any], overrides: Sequence[str] = ()) -> Section:
    """One stage alone, with the section of its own name if the recipe has one."""
    check_recipe(recipe)
    module = STAGES[verb].load()
    return Section(verb, verb, load(module.Config, recipe, verb, overrides), module.run)


def run_recipe(
    path: str | Path,
    overrides: Sequence[str] = (),
    *,
    until: str | None = None,
    only: str | None = None,
    force: Collection[str] = (),
) -> Path:
    """Run the sections that are not current, in order; returns the directory that holds them all.

    Args:
        until: the last section to run.
        only: the one section to run; its inputs must be there.
        force: sections to run again though they are current; their results so far are kept as NAME.old-1.

    Raises:
        UserError, Stopped, Defect: see `run_section`.
    """
    planned = plan(read_recipe(path), overrides, extra=[only] if only else [])
    names = [section.name for section in planned]
    for name in filter(None, [until, only, *force]):
        if name not in names:
            hint = nearest(name, names)
            raise UserError(f"there is no section {name!r}, expected one of {', '.join(names)}{hint}")
    last = names.index(until) + 1 if until else len(planned)
    chosen = [section for section in planned[:last] if only in (None, section.name)]
    if not chosen:
        raise UserError(f"--only {only} comes after --until {until}, expected one of the two; leave --until out")
    root, began = chosen[0].directory.parent, time.monotonic()
    print(f"{len(chosen)} sections in {root}", flush=True)
    owns_signals = interrupts.catch()
    try:
        for number, section in enumerate(chosen, 1):
            if interrupts.requested():
                raise Stopped(f"stopped before {section.name}; run the same command again to go on")
            so_far = clock(time.monotonic() - began)
            head = f"[{number}/{len(chosen)}] {section.name} ({so_far} so far)"
            run_section(section, head=head, force=section.name in force)
    finally:
        if owns_signals:
            interrupts.release()
    _print_table(chosen)
    return root


def run_section(section: Section, *, head: str = "", force: bool = False) -> bool:
    """Run one section unless it is current; True when it ran.

    Raises:
        UserError: an input is missing or unfinished, or what the stage itself refuses.
        Stopped: a signal asked for it; the state is saved.
        Defect: anything else that the stage raised; the traceback is in its directory.
    """
    head, directory = head or section.name, section.directory
    mark = fingerprint(section.config, _input_hashes(section))
    if force and is_stage(directory):
        print(f"{head}: forced; what was here is kept as {move_aside(directory)}", flush=True)
    if is_current(directory, mark):
        print(f"{head}: up to date ({directory})", flush=True)
        return False
    print(f"{head}: running", flush=True)
    try:
        section.run(section.config)
        if not is_current(directory, mark):
            raise RuntimeError(f"the stage returned, but {directory} is not finished with these inputs")
    except (Stopped, UserError) as error:
        _mark_ended(directory, "stopped" if isinstance(error, Stopped) else "failed")
        raise
    except Exception as error:
        raise _defect(section, error) from error
    finally:
        gc.collect()  # the models of one stage should not stand in the memory of the next
        give_memory_back()
    return True


def _modules(recipe: Mapping[str, Any], extra: Collection[str]) -> dict[str, ModuleType]:
    """Section -> the module of its stage, imported, in the order in which they run."""
    verbs = sections(recipe)
    ours = [verb for verb, stage in STAGES.items() if stage.in_recipe]
    wanted = [name for name in order(recipe) if recipe.get("stages") is not None or verbs[name] in ours]
    wanted += [name for name in extra if name in verbs and name not in wanted]
    faults = [
        f"section {name!r}: there is no stage {verbs[name]!r} in a recipe, expected one of {', '.join(ours)}"
        f"{nearest(verbs[name], ours)}"
        for name in wanted
        if verbs[name] not in ours
    ]
    if faults:
        raise UserError("\n".join(faults))
    if not wanted:
        raise UserError("the recipe lists no stages, expected a line such as `stages: [import, sft]`")
    return {name: STAGES[verbs[name]].load() for name in wanted}


def _distribute(overrides: Sequence[str], kinds: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, list[str]]]:
    """Section -> its overrides, field -> values: its own win over those for all sections."""
    given: dict[str, dict[str, list[str]]] = {name: {} for name in kinds}
    particular: dict[str, dict[str, list[str]]] = {name: {} for name in kinds}
    for key, value in map(split_override, overrides):
        head, _, rest = key.partition(".")
        takers = {name: field for name in kinds if (field := canonical(key, kinds[name])) is not None}
        if rest and head in given:
            particular[head].setdefault(canonical(rest, kinds[head]) or rest, []).append(value)
        elif key not in _OF_THE_RECIPE:
            if not takers:
                known = [*kinds, *{field for fields in kinds.values() for field in fields}, "until", "only", "force"]
                raise UserError(f"no section of this recipe has a field {key!r}{nearest(head, known)}")
            for name, field in takers.items():
                given[name].setdefault(field, []).append(value)
    return {name: given[name] | particular[name] for name in kinds}


def _unusable_inputs(name: str, config: Any, recipe: Mapping[str, Any], before: Sequence[str]) -> list[str]:
    """What is wrong with the inputs that a configuration names, as far as can be said before anything ran."""
    faults, to_run = [], {*order(recipe), name}
    folders = {other: section_directory(recipe, other) for other in sections(recipe)}
    for field, value in artifacts(config).items():
        homes = {other for other, folder in folders.items() if Path(value).is_relative_to(folder)} & to_run
        late = homes - set(before)
        if name in late:
            faults.append(
                f"{name}.{field} names section {name!r} itself, which would move that aside; set {name}.output_dir to "
                "another place, and what it made before can be read"
            )
        elif late:
            faults.append(
                f"{name}.{field} names section {min(late)!r}, which does not come before {name!r} in `stages`"
            )
        elif not homes and not is_plausible(value):
            faults.append(
                f"{name}.{field} is {value!r}, expected a section of this recipe that runs before, "
                "a directory, an asset or a hub id"
            )
    return faults


def _input_hashes(section: Section) -> dict[str, str]:
    """Field -> content hash of each input on this disk; all must be finished."""
    for field, value in artifacts(section.config).items():
        path, where = Path(value), f"{section.name}.{field}"
        for stage in filter(is_stage, (path, path.parent)):
            status = (read_manifest(stage) or {}).get("status")
            if status != "done":
                raise UserError(f"{where}: {stage} is not finished ({status}), expected a done stage; run it first")
        if not path.exists() and path.is_relative_to(section.directory.parent):
            raise UserError(f"{where}: {value} is not there, expected what another stage leaves; run that first")
    return {name: content_hash(path) for name, path in parent_paths(section.config).items()}


def _defect(section: Section, error: Exception) -> Defect:
    """Write down what happened, and say so in the manifest."""
    file = section.directory / "error.txt"
    write_atomic(file, "".join(traceback.format_exception(error)).encode(errors="backslashreplace"))
    _mark_ended(section.directory, "failed")
    return Defect(f"{section.name} failed: {type(error).__name__}: {error}", file)


def _mark_ended(directory: Path, status: str) -> None:
    from .run import mark_ended  # with PyTorch, which the stage has imported by now

    mark_ended(directory, status)


def _print_table(chosen: Sequence[Section]) -> None:
    """Seconds a section, as their manifests say, and the report if one of them made it: another is of other models."""
    rows = [(section.name, read_manifest(section.directory) or {}) for section in chosen]
    width = max(len("section"), *(len(name) for name, _ in rows))
    print(f"\n{'section':{width}}  {'seconds':>9}  status")
    for name, manifest in rows:
        print(f"{name:{width}}  {manifest.get('seconds', 0.0):9.1f}  {manifest.get('status', 'missing')}")
    print(f"{'total':{width}}  {sum(manifest.get('seconds', 0.0) for _, manifest in rows):9.1f}")
    reports = [path for section in chosen if (path := section.directory / "report.html").is_file()]
    if reports:  # of a directory named evaluate a copy lies beside the stages
        above = reports[-1].parents[1] / "report.html"
        copied = reports[-1].parent.name == "evaluate" and above.is_file()
        print(f"report: {above if copied else reports[-1]}", flush=True)

"""Recipes and overrides -> configurations."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml

from bessemer.config import (
    Artifact,
    artifacts,
    check_keys,
    dump,
    help_text,
    load,
    order,
    read_recipe,
    section_directory,
    sections,
)
from bessemer.errors import UserError


@dataclass
class Config:
    output_dir: str = ""
    """Where it writes."""
    seed: int = 0
    """Seed."""
    policy: Artifact = Artifact("sft")
    """The policy."""
    reward: Artifact | None = Artifact("reward")
    """The reward model, if any."""
    others: list[Artifact] = field(default_factory=list)
    """More models."""
    learning_rate: float = 1e-3
    """Step."""
    lora_rank: int = 8
    """Rank."""
    weights: dict[str, float] = field(default_factory=lambda: {"truth": 1.0, "clarity": 0.5})
    """Weights."""
    prompts: list[str] = field(default_factory=list)
    """Prompts."""
    mode: Literal["a", "b"] = "a"
    """Mode."""
    shuffle_rewards: bool = False
    """Shuffle."""


RECIPE: dict[str, Any] = {
    "name": "solar",
    "seed": 7,
    "stages": ["sft", "reward", "ppo", "shuffled"],
    "learning_rate": "1e-4",
    "sft": None,
    "ppo": {"learning_rate": 5e-5},
    "shuffled": {"stage": "ppo", "shuffle_rewards": True},
}


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "太阳能.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_precedence_class_recipe_section_command_line() -> None:
    assert load(Config, {}, "ppo").learning_rate == 1e-3
    assert load(Config, RECIPE, "shuffled").learning_rate == 1e-4
    assert load(Config, RECIPE, "ppo").learning_rate == 5e-5
    assert load(Config, RECIPE, "ppo", ["learning_rate=3e-6"]).learning_rate == 3e-6


def test_seed_is_shared_and_a_section_may_run_another_stage() -> None:
    config = load(Config, RECIPE, "shuffled")
    assert (config.seed, config.shuffle_rewards) == (7, True)
    assert sections(RECIPE) == {"sft": "sft", "reward": "reward", "ppo": "ppo", "shuffled": "ppo"}


def test_artifacts_that_name_sections_become_their_directories() -> None:
    recipe = {**RECIPE, "others": ["sft/model", "smollm2", "org/sft", "/abs/sft"]}
    config = load(Config, recipe, "ppo", ["reward=reward/model"])
    assert config.policy == "runs/solar/sft"
    assert config.reward == "runs/solar/reward/model"
    assert config.others == ["runs/solar/sft/model", "smollm2", "org/sft", "/abs/sft"]
    assert artifacts(config) == {
        "policy": "runs/solar/sft",
        "reward": "runs/solar/reward/model",
        "others.0": "runs/solar/sft/model",
        "others.1": "smollm2",
        "others.2": "org/sft",
        "others.3": "/abs/sft",
    }


def test_an_optional_input_of_an_absent_section_is_none_unless_it_was_asked_for() -> None:
    recipe = {"name": "text", "stages": ["sft", "ppo"]}
    assert load(Config, recipe, "ppo").reward is None
    assert load(Config, recipe, "ppo", ["reward=reward"]).reward == "reward"
    assert load(Config, {**recipe, "stages": ["ppo"]}, "ppo").policy == "sft"  # not optional: for `plan` to refuse


def test_directories_of_sections() -> None:
    assert load(Config, RECIPE, "ppo").output_dir == "runs/solar/ppo"
    recipe = {**RECIPE, "output_dir": "/data/runs", "sft": {"output_dir": "/elsewhere/sft"}}
    config = load(Config, recipe, "ppo")
    assert (config.output_dir, config.policy) == ("/data/runs/solar/ppo", "/elsewhere/sft")
    assert load(Config, RECIPE, "ppo", ["output_dir=/tmp/x"]).output_dir == "/tmp/x"
    assert load(Config, {}, "ppo").output_dir == "runs/ppo"
    assert section_directory(RECIPE, "sft") == "runs/solar/sft"


def test_an_optional_input_that_is_an_asset_by_default_stays() -> None:
    @dataclass
    class Started:
        model: Artifact | None = Artifact("smollm2")
        embedder: Artifact | None = None

    assert load(Started, {"name": "text", "stages": ["ppo"]}, "ppo") == Started()


def test_the_class_says_where_to_write_only_without_a_recipe() -> None:
    @dataclass
    class Placed:
        output_dir: str = "there"

    assert load(Placed, {}, "ppo").output_dir == "there"
    assert load(Placed, {"name": "solar"}, "ppo").output_dir == "runs/solar/ppo"


def test_where_to_write_may_be_nowhere() -> None:
    @dataclass
    class Shown:
        output_dir: str | None = None

    assert load(Shown, {"name": "solar"}, "compare") == load(Shown, {}, "compare") == Shown()
    assert load(Shown, {}, "compare", ["output_dir=there"]).output_dir == "there"


def test_a_section_named_like_a_field_is_not_its_value() -> None:
    recipe = {**RECIPE, "reward": {"learning_rate": 1.0}}
    assert load(Config, recipe, "ppo").reward == "runs/solar/reward"
    shared = {**RECIPE, "weights": {"truth": 2}}
    assert load(Config, shared, "ppo").weights == {"truth": 2.0}


def test_aliases_of_other_tools() -> None:
    assert load(Config, {**RECIPE, "lora_r": 4}, "ppo").lora_rank == 4
    assert load(Config, RECIPE, "ppo", ["lr=1", "lora_r=2"]).lora_rank == 2
    assert "also lora_r" in help_text(Config)
    with pytest.raises(UserError, match="given twice in the command line"):
        load(Config, RECIPE, "ppo", ["lora_r=2", "lora_rank=3"])


def test_a_list_that_is_given_several_times_is_joined() -> None:
    words = ["prompts=a", "lr=2", "prompts=[b, 'c, d']", "prompts=e"]
    assert load(Config, RECIPE, "ppo", words).prompts == ["a", "b", "c, d", "e"]
    assert load(Config, RECIPE, "ppo", ["others=sft", "others=org/x"]).others == ["runs/solar/sft", "org/x"]
    for key in ("seed", "policy", "weights", "weights.truth"):
        with pytest.raises(UserError, match=f"ppo.{key} is given twice in the command line, expected it once"):
            load(Config, RECIPE, "ppo", [f"{key}=1", f"{key}=2"])


def test_an_entry_of_a_mapping_can_be_set_alone() -> None:
    assert load(Config, RECIPE, "ppo", ["weights.truth=3"]).weights == {"truth": 3.0, "clarity": 0.5}
    recipe = {**RECIPE, "ppo": {"weights": {"truth": 9}}}
    assert load(Config, recipe, "ppo", ["weights.fluency=1"]).weights == {"truth": 9.0, "fluency": 1.0}
    assert load(Config, RECIPE, "ppo", ["weights={fluency: 2}"]).weights == {"fluency": 2.0}
    both = ["weights.fluency=1", "weights={clarity: 2}"]  # in either order
    assert load(Config, RECIPE, "ppo", both).weights == {"clarity": 2.0, "fluency": 1.0}
    with pytest.raises(UserError, match="no field 'seed.x'"):
        load(Config, RECIPE, "ppo", ["seed.x=3"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("learning_rat=1", "ppo has no field 'learning_rat' .* did you mean 'learning_rate'"),
        ("seed=x", "ppo.seed is 'x', expected a whole number"),
        ("mode=c", "ppo.mode is 'c', expected one of a, b"),
        ("seed", "'seed' is not an override, expected key=value"),
        ("=3", "is not an override"),
    ],
)
def test_bad_overrides(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load(Config, RECIPE, "ppo", [override])


def test_unknown_key_in_a_section() -> None:
    with pytest.raises(UserError, match=r"section ppo\); did you mean 'lora_rank'"):
        load(Config, {**RECIPE, "ppo": {"lora_rnk": 3}}, "ppo")


def test_hyphens_and_chinese_pass() -> None:
    config = load(Config, RECIPE, "ppo", ["learning-rate=0.5", "prompts=[这块电池有缺陷吗？, 'a=b, c']"])
    assert (config.learning_rate, config.prompts) == (0.5, ["这块电池有缺陷吗？", "a=b, c"])


@pytest.mark.parametrize(
    ("key", "value"), [("learning_rat", 1), ("pppo", {"seed": 1}), ("stage", ["sft"]), ("evaluates", {})]
)
def test_unknown_top_level_keys(key: str, value: object) -> None:
    known, verbs = {"learning_rate", "seed"}, {"sft", "ppo", "evaluate"}
    check_keys({**RECIPE, "evaluate": {}, "lr": 1}, known, verbs)
    with pytest.raises(UserError, match=f"'{key}' is not a key of a recipe"):
        check_keys({**RECIPE, key: value}, known, verbs)


@pytest.mark.parametrize(
    "stages",
    [3, ["sft", "sft"], [["sft"]], {"sft": 1}, ["../x"], ["a/b"], ["-rf"], [""], ["x" * 65], ["a.b"]],
)
def test_stages_must_be_different_plain_names(stages: object) -> None:
    with pytest.raises(UserError):
        sections({"stages": stages})


def test_order_is_that_of_stages_or_of_the_file() -> None:
    assert order({"sft": {}, "b": {}, "seed": 1, "stages": ["b", "a"]}) == ["b", "a"]
    assert order({"sft": {}, "seed": 1, "b": {}}) == ["sft", "b"]
    assert order({"stages": "[a, b]"}) == ["a", "b"]
    with pytest.raises(UserError, match="section sft is 3, expected a mapping"):
        sections({"stages": ["sft"], "sft": 3})


@pytest.mark.parametrize("name", ["../evil", "/abs", "a b", ".", "-x"])
def test_the_name_of_a_recipe_cannot_leave_its_directory(name: str) -> None:
    with pytest.raises(UserError, match="cannot name a directory"):
        load(Config, {**RECIPE, "name": name}, "ppo")


def test_read_recipe(tmp_path: Path) -> None:
    path = write(tmp_path, "\ufeffseed: 1\nsft: {prompts: [缺陷]}\n")
    assert read_recipe(path) == {"seed": 1, "sft": {"prompts": ["缺陷"]}, "name": "太阳能"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: [\n", r"yaml:3: .*expected YAML"),
        ("seed: 1\nsft:\n  a: 1\n  b: 2\n  a: 3\n", r"yaml:5: the key 'a' stands here twice"),
        ("- a\n", "expected a mapping"),
        ("", "expected a mapping"),
        ("1: 2\n", "expected a mapping"),
        ("a: !!python/object/apply:os.system [echo]\n", "expected YAML"),
        ("a: 2024-13-45\n", "expected YAML"),
        ("[" * 5000, "expected YAML"),
        ("a: " + "x" * 1_000_001, "expected a YAML file of at most"),
    ],
)
def test_bad_recipes(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_recipe(write(tmp_path, text))


def test_unreadable_recipes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="could not be read"):
        read_recipe(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes("name: caf\xe9".encode("latin-1"))
    with pytest.raises(UserError, match="not UTF-8"):
        read_recipe(tmp_path / "latin.yaml")


def test_dump_comes_back_equal_and_readable() -> None:
    config = load(Config, RECIPE, "ppo", ["prompts=[是, 'null', '007', 'a: b']", "learning_rate=1e-7", "reward=null"])
    text = dump(config)
    assert "是" in text
    recipe = {"ppo": yaml.safe_load(text)}
    assert load(Config, recipe, "ppo") == config

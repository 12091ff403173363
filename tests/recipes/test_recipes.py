"""Recipes: what is read, what is refused and which key the refusal names."""

from pathlib import Path

import pytest
import yaml

from s2d_ray.curation.registry import load_rules
from s2d_ray.errors import UserError
from s2d_ray.methods.registry import load_method
from s2d_ray.recipes.load import load_recipe, load_single_recipe, overridden, shipped_recipes
from s2d_ray.recipes.recipe import Mixture, Recipe
from s2d_ray.recipes.sections import Train
from s2d_ray.recipes.strict import Named
from s2d_ray.tasks.registry import load_task

MINIMAL = {"name": "mine", "model": "a-model", "task": "geonames", "method": "s2a"}


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return str(path)


@pytest.fixture
def minimal(tmp_path: Path) -> str:
    return write(tmp_path, yaml.safe_dump(MINIMAL))


def refusal(recipe: str, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load_recipe(recipe, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_round_trips_and_resolves_its_names(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    dumped = yaml.safe_dump(recipe.model_dump(mode="json"), allow_unicode=True)
    assert load_recipe(write(tmp_path, dumped)) == recipe
    assert recipe.name == name
    assert shipped_recipes()[name] == recipe.description != ""
    for own in recipe.recipes().values():
        task = load_task(own.task)
        # Those of the paper's sizes read their data from the hub.
        assert name.endswith("-paper") or next(task.items("train", own.seed))
        assert callable(load_method(own.method))
        assert len(load_rules(own.curate.rules)) == len(own.curate.rules) > 0


def test_a_name_alone_stands_for_a_section(minimal: str) -> None:
    recipe = load_single_recipe(minimal)
    assert (recipe.task, recipe.method) == (Named(name="geonames"), Named(name="s2a"))
    assert recipe.task.options == {}


def test_overrides_are_typed_and_the_last_one_counts(minimal: str) -> None:
    overrides = ["train.epochs=1", "train.epochs=0.5", "evaluate.controls=false", "generate.sampling.stop=[a, b]"]
    recipe = load_single_recipe(minimal, overrides)
    assert recipe.train.epochs == 0.5
    assert recipe.evaluate.controls is False
    assert recipe.generate.sampling.stop == ("a", "b")
    assert recipe == load_single_recipe(minimal).model_copy(
        update={"train": recipe.train, "evaluate": recipe.evaluate, "generate": recipe.generate}
    )


def test_an_override_reaches_into_a_section_that_is_only_a_name(minimal: str) -> None:
    recipe = load_single_recipe(minimal, ["task.cities=30", "method.prompts=few_shot"])
    assert recipe.task == Named.model_validate({"name": "geonames", "cities": 30})
    assert recipe.method == Named.model_validate({"name": "s2a", "prompts": "few_shot"})


def test_an_override_makes_the_section_that_the_recipe_leaves_out(tmp_path: Path) -> None:
    raw = {"name": "mine", "model": "a-model", "method": "s2a"}
    path = write(tmp_path, yaml.safe_dump(raw))
    recipe = load_single_recipe(path, ["task.name=geonames", "task.cities=30", "train.lora.rank=4"])
    assert recipe.task == Named.model_validate({"name": "geonames", "cities": 30})
    assert recipe.train.lora is not None
    assert recipe.train.lora.rank == 4


def test_an_override_with_an_equals_sign_keeps_it(minimal: str) -> None:
    assert load_single_recipe(minimal, ["description=a=b"]).description == "a=b"


@pytest.mark.parametrize(
    ("override", "unknown", "nearest"),
    [
        ("sed=1", "sed", "seed"),
        ("trian.epochs=1", "trian", "train"),
        ("train.epoch=1", "train.epoch", "epochs"),
        ("train.lora.rnk=1", "train.lora.rnk", "rank"),
        ("generate.sampling.temprature=1", "generate.sampling.temprature", "temperature"),
    ],
)
def test_an_unknown_key_is_refused_and_the_nearest_is_named(
    minimal: str, override: str, unknown: str, nearest: str
) -> None:
    assert f"unknown key {unknown}: did you mean {nearest}?" in refusal(minimal, override)


@pytest.mark.parametrize(
    ("argument", "instead"),
    [
        ("data_parallel_size", "engine.max_engines"),
        ("tensor_parallel_size", "engine.tensor_parallel"),
        ("pipeline_parallel_size", "engine.pipeline_parallel"),
        ("distributed_executor_backend", "engine.pipeline_parallel above 1"),
    ],
)
def test_arguments_of_vllm_that_ask_for_gpus_of_their_own_are_refused(
    minimal: str, argument: str, instead: str
) -> None:
    said = refusal(minimal, f"engine.extra.{argument}=8")
    assert f"extra.{argument} asks for GPUs that Ray does not set aside: set {instead}" in said
    assert load_single_recipe(minimal, ["engine.extra.enable_expert_parallel=true"]).engine.extra


def test_an_unknown_key_that_is_like_none_lists_the_known_ones(minimal: str) -> None:
    assert "unknown key evaluate.zzz: known keys: controls, targets, method, also" in refusal(minimal, "evaluate.zzz=1")


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["train.internalise={}"], "no trace to take away: set curate.target to shortest or shortened"),
        (["evaluate.targets=[answer]"], "evaluate.targets names answer, on which the student is trained anyway"),
        (["curate.target=shortest", "evaluate.targets=[shortest]"], "names shortest, on which the student"),
        (
            ["curate.target=shortened", "train.internalise={}", "evaluate.targets=[internalised]"],
            "evaluate.targets names internalised, on which the student is trained anyway",
        ),
        (["evaluate.targets=[shortest, shortest]"], "evaluate: targets names one twice"),
        (["evaluate.targets=[longest]"], "evaluate.targets.0: Input should be 'answer', 'shortest', 'shortened' or"),
        (["curate.target=internalised"], "curate.target: Input should be 'answer', 'shortest' or 'shortened'"),
        (
            ["curate.target=shortest", "answer_format.choice=[a, b]"],
            "answer_format leaves no room for what the target shortest trains before the answer",
        ),
        (["evaluate.targets=[shortened]", "answer_format.choice=[a, b]"], "room for what the target shortened trains"),
        (["curate.target=shortest", "train.internalise.share=1"], "train.internalise.share: Input should be less than"),
    ],
)
def test_targets_that_say_nothing_are_refused(minimal: str, overrides: list[str], problem: str) -> None:
    assert problem in refusal(minimal, *overrides)


def test_a_student_on_one_target_may_be_beside_those_on_all_others(minimal: str) -> None:
    found = load_single_recipe(
        minimal, ["curate.target=shortest", "evaluate.targets=[answer, shortened, internalised]"]
    )
    assert (found.target, len(found.evaluate.targets)) == ("shortest", 3)
    assert load_single_recipe(minimal, ["curate.target=shortened", "train.internalise={}"]).target == "internalised"


def test_every_problem_is_named_in_one_line(minimal: str) -> None:
    message = refusal(minimal, "train.epoch=1", "limit=0", "sed=1")
    assert all(part in message for part in ("train.epoch", "limit", "unknown key sed"))


@pytest.mark.parametrize(
    ("section", "unknown", "nearest"),
    [
        ({"name": "geonames", "citis": 3}, "task geonames: unknown key citis", "cities"),
        ({"name": "prompts", "path": "p", "text_colum": "q"}, "task prompts: unknown key text_colum", "text_column"),
    ],
)
def test_an_unknown_option_of_a_task_names_the_nearest(section: dict[str, object], unknown: str, nearest: str) -> None:
    with pytest.raises(UserError) as caught:
        load_task(Named.model_validate(section))
    assert f"{unknown}: did you mean {nearest}?" in str(caught.value)


def test_an_unknown_option_of_a_method_or_a_rule_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"method s2a: unknown key prompt: did you mean prompts\?"):
        load_method(Named.model_validate({"name": "s2a", "prompt": "few_shot"}))
    with pytest.raises(UserError, match=r"rule majority: unknown key treshold: did you mean threshold\?"):
        load_rules([Named.model_validate({"name": "majority", "treshold": 0.5})])


def test_an_unknown_name_lists_the_shipped_ones() -> None:
    with pytest.raises(UserError, match="no task geography: shipped are last_letter, "):
        load_task(Named(name="geography"))
    with pytest.raises(UserError, match="no method s3a: shipped are direct, cot"):
        load_method(Named(name="s3a"))
    with pytest.raises(UserError, match="no prompt set paper: zero_shot, few_shot"):
        load_method(Named.model_validate({"name": "s2a", "prompts": "paper"}))
    with pytest.raises(UserError, match="no curation rule plurality: shipped are majority, universal, "):
        load_rules([Named(name="plurality")])


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("no_such_module:thing", "no module no_such_module"),
        ("s2d_ray.methods.direct:thing", "module s2d_ray.methods.direct has no thing"),
        (":thing", ":thing names no object: write my_module:my_object"),
        ("json:", "json: names no object: write my_module:my_object"),
        (".json:thing", "names no object: write my_module:my_object"),
    ],
)
def test_an_object_of_ones_own_that_is_not_there_is_named(name: str, missing: str) -> None:
    for load in (load_method, load_task):
        with pytest.raises(UserError, match=missing):
            load(Named(name=name))


def test_an_object_of_ones_own_of_another_kind_is_refused() -> None:
    with pytest.raises(UserError, match=r"json:loads is no Task: derive it from s2d_ray\.tasks\.task\.Task"):
        load_task(Named(name="json:loads"))
    with pytest.raises(UserError, match=r"task:Task is not complete: write the abstract methods of Task"):
        load_task(Named(name="s2d_ray.tasks.task:Task"))
    with pytest.raises(UserError, match=r"geonames:Geonames is no Rule: derive it from s2d_ray\.curation\.rule\.Rule"):
        load_rules([Named(name="s2d_ray.tasks.geonames:Geonames")])
    with pytest.raises(UserError, match="method json:__name__ is no function"):
        load_method(Named(name="json:__name__"))


def test_direct_takes_the_prompt_sets_of_other_methods_and_no_unknown_one() -> None:
    assert load_method(Named.model_validate({"name": "direct", "prompts": "few_shot"})) is load_method(
        Named(name="direct")
    )
    with pytest.raises(UserError, match="no prompt set two_shot: zero_shot, few_shot, paper, few_shot_cot"):
        load_method(Named.model_validate({"name": "direct", "prompts": "two_shot"}))


def test_a_method_of_ones_own_is_taken_from_its_module() -> None:
    from s2d_ray.methods.direct import direct

    assert load_method(Named(name="s2d_ray.methods.direct:direct")) is direct


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("limit=0", "limit: Input should be greater than or equal to 1"),
        ("seed=-1", "seed: Input should be greater than or equal to 0"),
        ("generate.samples=0", "generate.samples: Input should be greater than or equal to 1"),
        ("generate.sampling.top_p=0", "generate.sampling.top_p: Input should be greater than 0"),
        ("generate.max_failed_share=1.1", "generate.max_failed_share: Input should be less than or equal to 1"),
        ("train.epochs=.nan", "train.epochs: Input should be a finite number"),
        ("train.zero_stage=4", "train.zero_stage: Input should be 0, 1, 2 or 3"),
        ("train.workers=17", "train: batch_size 16 has no example for each of 17 workers"),
        ("train.workers=[2, 17]", "train: batch_size 16 has no example for each of 17 workers"),
        ("train.workers=0", "train.workers: a number of workers from 1, or [min, max]"),
        ("train.workers=[4, 2]", "train.workers: a number of workers from 1, or [min, max]"),
        ("train.workers=[1, 2, 3]", "train.workers: a number of workers from 1, or [min, max]"),
        ("train.workers=many", "train.workers: a number of workers from 1, or [min, max]"),
        ("train.schedule=cosin", "train.schedule: Input should be 'linear', 'cosine' or 'constant'"),
        ("train.offload=parameters", "train: offload parameters needs zero_stage 3"),
        ("train={offload: optimizer, zero_stage: 0}", "train: offload optimizer needs zero_stage 1, 2 or 3"),
        (
            "train={offload: optimizer, optimizer: adamw_8bit}",
            "train: optimizer adamw_8bit computes on the GPU: set off",
        ),
        ("train={zero_stage: 3, lora: {quantize: 4bit}}", "train: lora.quantize needs zero_stage 0, 1 or 2"),
        ("train.lora.quantize=8bit", "train.lora.quantize: Input should be '4bit'"),
        ("train.lora.targets=[]", "train.lora.targets: all-linear, or a list of names of layers"),
        ("train.lora.targets=q_proj", "train.lora.targets: all-linear, or a list of names of layers"),
        ("train.micro_batch_tokens=0", "train.micro_batch_tokens: Input should be greater than or equal to 1"),
        ("train.attention=flash", "train.attention: Input should be 'auto', 'eager', 'sdpa' or 'flash_attention_2'"),
        ("train={attention: flash_attention_2, dtype: float32}", "train: attention flash_attention_2 computes in bfl"),
        ("train.extra={bf16: {enabled: true}}", "train.extra: bf16 is decided by train.dtype"),
        ("train.extra={optimizer: {type: Lion}}", "train.extra: optimizer is decided by train.optimizer"),
        (
            "train.extra={zero_optimization: {stage: 1}}",
            "train.extra: zero_optimization.stage is decided by train.zero_s",
        ),
        ("train.extra={zero_optimization: 3}", "train.extra: zero_optimization is a mapping"),
        ("engine.kind=llama", "engine.kind: Input should be 'vllm' or 'scripted'"),
        ("name=../elsewhere", "name: String should match pattern"),
        ("train.epochs=many", "train.epochs: Input should be a valid number"),
        ("curate.rules=[]", "curate.rules: "),
        ("serve.weights={student: 0.7, base: 0.4}", "serve.weights: student 0.7 and base 0.4 add up to more than 1"),
        ("serve.host=0.0.0.0", "serve: host 0.0.0.0 is reached by other machines: set admin_token_env"),
        ("serve.host=example.org", "serve: host example.org is reached by other machines: set admin_token_env"),
        ("serve.admin_token_env=my-secret", "serve.admin_token_env: String should match pattern"),
        ("serve.ramp=[{student: 0.1, hours: 0}]", "serve.ramp.0.hours: Input should be greater than 0"),
        (
            "serve.ramp=[{student: 0.2, hours: 1}, {student: 0.1, hours: 1}]",
            "serve: the ramp must rise step by step up to weights.student, not go 0.2 → 0.1 → 0.5",
        ),
        (
            "serve.cascade={confidence: votes}",
            "serve.cascade votes over 3 samples and is calibrated at evaluation, which",
        ),
        ("serve.student.min_replicas=2", "serve.student: min_replicas 2 is more than max_replicas 1"),
        ("serve.margin=0", "serve.margin: Input should be greater than 0"),
        ("serve.system1.queued_requests=9", "serve.system1 is now serve.student"),
        ("serve.system2={max_replicas: 2}", "serve.system2 is now serve.teacher"),
        ("serve.weights={system1: 0.1}", "serve.weights.system1 is now serve.weights.student"),
        (
            "serve.ramp=[{student: 0.1, hours: 1}, {system1: 0.2, student: 0.2, hours: 1}]",
            "serve.ramp.1.system1 is now serve.ramp.1.student",
        ),
    ],
)
def test_a_value_out_of_range_is_refused_by_its_key(minimal: str, override: str, problem: str) -> None:
    assert f"recipe {minimal}: {problem}" in refusal(minimal, override)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.8.8"])
def test_this_machine_alone_is_served_without_a_token(minimal: str, host: str) -> None:
    assert load_single_recipe(minimal, [f"serve.host='{host}'"]).serve.loopback


def test_other_machines_are_served_with_the_name_of_a_token(minimal: str) -> None:
    serve = load_single_recipe(minimal, ["serve.host=0.0.0.0", "serve.admin_token_env=S2D_ADMIN_TOKEN"]).serve
    assert not serve.loopback


def test_the_teacher_answers_whom_nobody_else_does(minimal: str) -> None:
    weights = load_single_recipe(minimal, ["serve.weights={student: 0.1, base: 0.2}"]).serve.weights
    assert weights.teacher == pytest.approx(0.7)
    assert load_single_recipe(minimal, ["serve.weights={student: 0.7, base: 0.3}"]).serve.weights.teacher == 0


def test_a_micro_batch_larger_than_a_workers_share_is_fine(minimal: str) -> None:
    assert load_single_recipe(minimal, ["train.workers=4", "train.micro_batch_size=8"]).train.workers == 4


def test_workers_and_micro_batches_need_not_divide_the_batch(minimal: str) -> None:
    assert load_single_recipe(minimal, ["train.workers=3", "train.micro_batch_size=5"]).train.max_workers == 3


def test_a_range_of_workers_is_elastic(minimal: str) -> None:
    train = load_single_recipe(minimal, ["train.workers=[2, 8]"]).train
    assert train.workers == (2, 8)
    assert train.max_workers == 8
    assert Train.model_validate(train.model_dump(mode="json")) == train


def test_an_engine_takes_a_gpu_for_each_split_of_the_model(minimal: str) -> None:
    assert load_single_recipe(minimal).engine.gpus == 1
    assert load_single_recipe(minimal, ["engine.tensor_parallel=4", "engine.pipeline_parallel=2"]).engine.gpus == 8


def test_fewer_engines_at_most_than_at_least_are_refused(minimal: str) -> None:
    assert "min_engines 3 is more than max_engines 2" in refusal(
        minimal, "engine.min_engines=3", "engine.max_engines=2"
    )
    assert "engine.min_engines" in refusal(minimal, "engine.min_engines=0")


@pytest.mark.parametrize("missing", ["name", "model", "task", "method"])
def test_a_required_key_is_asked_for(tmp_path: Path, missing: str) -> None:
    raw = {key: value for key, value in MINIMAL.items() if key != missing}
    assert f"{missing}: Field required" in refusal(write(tmp_path, yaml.safe_dump(raw)))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("name: [unclosed", "is not YAML"),
        ("- a list", "is not a YAML mapping"),
        ("", "is not a YAML mapping"),
        ("just words", "is not a YAML mapping"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    path = write(tmp_path, text)
    assert f"{path} {problem}" in refusal(path)


def test_a_recipe_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_bytes("name: Zürich".encode("latin-1"))
    assert "recipe.yaml is not UTF-8 text" in refusal(str(tmp_path / "recipe.yaml"))


def test_a_recipe_that_is_not_there() -> None:
    assert "did you mean s2a-geonames?" in refusal("s2a-geoname")
    assert "`s2d recipes` lists them" in refusal("zzz")
    assert "no recipe file nowhere.yaml; shipped recipes: bsm-judge-paper, " in refusal("nowhere.yaml")


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("seed", "is not of the form key=value"),
        ("=1", "is not of the form key=value"),
        ("seed.more=1", "seed is a single value, not a section"),
        ("train.epochs.more=1", "train.epochs: Input should be a valid number"),
        ("train.epochs=[1", "the value of override 'train.epochs=[1' is not YAML"),
        ("description=2024-13-01", "the value of override 'description=2024-13-01' is not YAML"),
    ],
)
def test_an_override_that_cannot_be_applied_is_refused(minimal: str, override: str, problem: str) -> None:
    # `seed` and `epochs` are single values; in this recipe only the first is written out.
    assert problem in refusal(minimal, "seed=3", override)


def test_a_recipe_cannot_be_changed(minimal: str) -> None:
    recipe: Recipe = load_single_recipe(minimal)
    with pytest.raises(ValueError, match="frozen"):
        recipe.seed = 3  # type: ignore[misc]


MIXTURE = {
    "name": "mine",
    "model": "a-model",
    "limit": 50,
    "generate": {"samples": 6, "sampling": {"temperature": 0.8, "max_tokens": 40}},
    "train": {"max_examples": 30},
    "parts": {
        "cities": {"task": "geonames", "method": "s2a"},
        "letters": {
            "task": {"name": "last_letter", "words": [2]},
            "method": "rar2",
            "limit": 20,
            "max_examples": 5,
            "generate": {"sampling": {"max_tokens": 80}},
            "curate": {"rules": ["unfiltered"]},
            "evaluate": {"limit": 7},
        },
    },
}


@pytest.fixture
def mixture(tmp_path: Path) -> str:
    return write(tmp_path, yaml.safe_dump(MIXTURE))


def test_a_part_has_the_mixtures_settings_but_for_its_own(mixture: str) -> None:
    recipes = load_recipe(mixture, ["seed=3"]).recipes()
    cities, letters = recipes["cities"], recipes["letters"]
    assert [recipe.name for recipe in recipes.values()] == ["mine-cities", "mine-letters"]
    assert (cities.task.name, letters.task.options, letters.method.name) == ("geonames", {"words": [2]}, "rar2")
    for recipe in recipes.values():
        assert (recipe.model, recipe.seed, recipe.generate.samples) == ("a-model", 3, 6)
        assert recipe.generate.sampling.temperature == 0.8
    assert (cities.generate.sampling.max_tokens, letters.generate.sampling.max_tokens) == (40, 80)
    assert [rule.name for rule in (*cities.curate.rules, *letters.curate.rules)] == ["majority", "unfiltered"]
    assert (cities.evaluate.limit, letters.evaluate.limit) == (None, 7)
    assert (cities.train.max_examples, letters.train.max_examples) == (30, 5)


def test_a_limit_of_a_part_can_only_lower_the_mixtures(mixture: str) -> None:
    def limits(*overrides: str) -> list[int | None]:
        return [recipe.limit for recipe in load_recipe(mixture, overrides).recipes().values()]

    assert limits() == [50, 20]
    assert limits("limit=10") == [10, 10]
    assert limits("limit=null", "parts.letters.limit=null") == [None, None]


def test_a_recipe_is_its_own_only_part(minimal: str) -> None:
    recipe = load_single_recipe(minimal)
    assert recipe.recipes() == {"": recipe}


def test_a_written_out_mixture_means_the_same(mixture: str, tmp_path: Path) -> None:
    """Every default of a part is written out then, and still stands for the mixture's setting."""
    recipe = load_recipe(mixture)
    again = load_recipe(write(tmp_path, yaml.safe_dump(recipe.model_dump(mode="json"))))
    assert again == recipe
    assert again.recipes() == recipe.recipes()


def test_an_override_reaches_all_parts_or_one(mixture: str) -> None:
    overrides = ["generate.samples=2", "parts.cities.method.prompts=few_shot", "parts.letters.generate.samples=9"]
    recipes = load_recipe(mixture, overrides).recipes()
    assert [recipe.generate.samples for recipe in recipes.values()] == [2, 9]
    assert recipes["cities"].method.options == {"prompts": "few_shot"}


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("parts.letters.generate.sample=3", "part letters: unknown key generate.sample: did you mean samples?"),
        ("parts.letters.generate.samples=0", "part letters: generate.samples: Input should be greater than or equal"),
        ("parts.letters.limt=3", "unknown key parts.letters.limt: did you mean limit?"),
        ("parts.letters.train.epochs=1", "unknown key parts.letters.train: known keys: task, method, limit, "),
        ("parts.letters.evaluate.controls=false", "evaluate.controls must not differ between parts"),
        ("parts.letters.evaluate.targets=[shortest]", "evaluate.targets must not differ between parts"),
        ("train.internalise={}", "part cities: train.internalise has no trace to take away"),
        ("parts.letters.evaluate.general=null", "evaluate.general must not differ between parts"),
        ("parts.a/b.task=geonames", "parts.a/b"),
        ("parts={}", "parts: Dictionary should have at least 1 item"),
        ("task=geonames", "unknown key task: known keys: name, "),
        ("generate.sample=3", "recipe.yaml: unknown key generate.sample: did you mean samples?"),
    ],
)
def test_a_wrong_mixture_is_refused_by_its_part_and_key(mixture: str, override: str, problem: str) -> None:
    assert problem in refusal(mixture, override)


def test_a_mixture_is_refused_where_one_task_is_needed(mixture: str) -> None:
    assert isinstance(load_recipe(mixture), Mixture)
    with pytest.raises(UserError, match="is a mixture of cities, letters: name a recipe of one task here"):
        load_single_recipe(mixture)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["evaluate.method={name: cot}"], "evaluate: method has the options of the recipe's method only"),
        (["evaluate.also=[cot, {name: cot, prompts: few_shot}]"], "evaluate: also names a method twice"),
        (["evaluate.samples=5"], "evaluate: 5 samples at temperature 0 are all the same: set sampling.temperature"),
    ],
)
def test_an_evaluation_that_could_not_mean_anything_is_refused(minimal: str, overrides: list[str], told: str) -> None:
    assert told in refusal(minimal, *overrides)


def test_evaluation_may_add_options_methods_and_samples(minimal: str) -> None:
    overrides = ["evaluate.method.prompts=few_shot", "evaluate.also=[cot]", "evaluate.samples=5"]
    evaluate = load_single_recipe(minimal, [*overrides, "evaluate.sampling.temperature=0.6"]).evaluate
    assert (evaluate.method, evaluate.also, evaluate.samples) == ({"prompts": "few_shot"}, (Named(name="cot"),), 5)


def test_a_chat_template_s_file_is_read_with_the_recipe(
    minimal: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside, here = Path(minimal).parent, tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    (beside / "beside.jinja").write_text("{{ messages }} beside")
    (here / "here.jinja").write_text("{{ messages }} here")
    for named in ("beside.jinja", str(beside / "beside.jinja")):
        assert load_recipe(minimal, [f"chat_template={named}"]).chat.template == "{{ messages }} beside"
    recipe = load_recipe(minimal, ["chat_template=here.jinja"])
    assert recipe.chat.template == "{{ messages }} here"
    (here / "here.jinja").unlink()
    assert overridden(recipe, ["seed=4"]).chat.template == "{{ messages }} here"
    assert load_recipe(minimal, {"chat_template": "{{ a }}.jinja"}).chat.template == "{{ a }}.jinja"
    assert "no chat template here.jinja in" in refusal(minimal, "chat_template=here.jinja")
    built = recipe.model_copy(update={"chat_template": str(beside / "beside.jinja")})
    assert overridden(built, []).chat.template == "{{ messages }} beside"

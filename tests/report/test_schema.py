"""The schema files say what the models say, and what is written keeps to them."""

import json
from importlib.resources import files
from typing import Any

import jsonschema
import pytest

from s2d_ray.recipes.recipe import Recipe
from s2d_ray.report.overview import write_overview
from s2d_ray.report.report import write_report
from s2d_ray.report.schema import SCHEMAS, json_schema
from tests.report.toy_run import RECIPE, Toy, write_run


def schema(name: str) -> Any:
    return json.loads(files("s2d_ray.report").joinpath(name).read_text())


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Schema file → what was written that it describes."""
    root = tmp_path_factory.mktemp("runs")
    run = write_run(root / "toy", Toy())
    write_report(RECIPE, Toy(), run)
    two_rounds = Recipe.model_validate(RECIPE.model_dump() | {"rounds": 2})
    write_overview(two_rounds, [{"": run}], root)
    paths = {"report.schema.json": run.report / "report.json", "overview.schema.json": root / "overview.json"}
    return {name: json.loads(path.read_text()) for name, path in paths.items()}


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_file_is_what_the_model_says(name: str) -> None:
    assert files("s2d_ray.report").joinpath(name).read_text() == json_schema(SCHEMAS[name]), (
        "run `python -m s2d_ray.report.schema`"
    )


@pytest.mark.parametrize("name", SCHEMAS)
def test_what_is_written_is_valid(written: dict[str, Any], name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(schema(name))
    jsonschema.Draft202012Validator(schema(name)).validate(written[name])


@pytest.mark.parametrize("name", SCHEMAS)
def test_what_lacks_a_key_has_another_or_is_of_another_version_is_not(written: dict[str, Any], name: str) -> None:
    validator, content = jsonschema.Draft202012Validator(schema(name)), written[name]
    for wrong in (
        *({key: value for key, value in content.items() if key != left_out} for left_out in content),
        content | {"colour": "red"},
        content | {"schema_version": 1},
    ):
        assert not validator.is_valid(wrong)


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_figures_are_described_as_where_they_are_worked_out(name: str) -> None:
    definitions = schema(name)["$defs"]
    assert definitions["Score"]["properties"]["n"]["description"].startswith("Prompts scored;")
    assert definitions["Paired"]["properties"]["p_value"]["description"].startswith("Exact McNemar test")

"""A form that answers have: a JSON schema, a list of choices or a regular expression."""

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any, Self

from jsonschema import Draft7Validator, Draft202012Validator, SchemaError
from jsonschema.validators import validator_for
from pydantic import AfterValidator, Field, model_validator
from referencing.exceptions import Unresolvable

from s2d_ray.recipes.strict import Strict, is_none

ANY_OBJECT: Mapping[str, Any] = {"type": "object"}
"""The schema of whatever JSON object."""
MAX_CHOICES, MAX_PATTERN, MAX_SCHEMA = 1000, 4096, 32 * 1024
"""Choices, and characters of a regular expression and a schema, at most: all of it is worked out before a token is."""


def _valid_schema(schema: dict[str, Any]) -> dict[str, Any]:
    if problem := _problem_of(json.dumps(schema)):
        raise ValueError(problem)
    return schema


@lru_cache(maxsize=256)
def _problem_of(written: str) -> str | None:
    """Why a text is no JSON schema; None where it is one. Milliseconds, so that clients that repeat theirs pay once."""
    schema = json.loads(written)
    if len(written) > MAX_SCHEMA:
        return f"longer than {MAX_SCHEMA} characters"
    if not isinstance(schema.get("$schema", ""), str):
        return "no JSON schema: $schema is a text"
    # Elsewhere is not looked: an engine would take a schema that it cannot see for one that everything fits.
    if elsewhere := re.search(r'"\$ref": "(?!#)([^"]*)', written):
        return f"$ref {elsewhere[1]!r} is not in the schema itself: put what it names under $defs"
    try:
        # Of the drafts that say what today's schemas are made of, the quickest to check.
        validator_for(schema, Draft7Validator).check_schema(schema)
    except SchemaError as error:
        place = "/".join(map(str, error.absolute_path))
        return f"no JSON schema{f', at {place}' if place else ''}: {error.message[:200]}"
    except RecursionError as error:
        return f"no JSON schema: {error}"
    return None


def _valid_choices(choices: tuple[str, ...]) -> tuple[str, ...]:
    if not all(choices) or len(set(choices)) < len(choices):
        raise ValueError("texts that are not empty and that differ")
    return choices


def _valid_pattern(pattern: str) -> str:
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"no regular expression: {error}") from error
    if "\0" in pattern:
        raise ValueError("no regular expression: it has a null character")
    return pattern


Schema = Annotated[dict[str, Any], AfterValidator(_valid_schema)]
Choices = Annotated[tuple[str, ...], Field(min_length=1, max_length=MAX_CHOICES), AfterValidator(_valid_choices)]
Pattern = Annotated[str, Field(min_length=1, max_length=MAX_PATTERN), AfterValidator(_valid_pattern)]


class AnswerFormat(Strict):
    """What every answer must be like. The engine lets the model say nothing else; a thought before it is free."""

    json_schema: Schema | None = Field(None, exclude_if=is_none)
    """The answer is JSON of this schema."""
    choice: Choices | None = Field(None, exclude_if=is_none)
    """The answer is one of these texts."""
    regex: Pattern | None = Field(None, exclude_if=is_none)
    """The whole answer matches this regular expression."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if [self.json_schema, self.choice, self.regex].count(None) != 2:
            raise ValueError("exactly one of json_schema, choice and regex")
        return self

    def fits(self, text: str) -> bool:
        """Whether a text has the form."""
        if self.choice is not None:
            return text in self.choice
        if self.regex is not None:
            return re.fullmatch(self.regex, text) is not None
        assert self.json_schema is not None
        try:
            content = json.loads(text)
        except (ValueError, RecursionError):
            return False
        try:
            return bool(validator_for(self.json_schema, Draft202012Validator)(self.json_schema).is_valid(content))
        except Unresolvable:
            return False

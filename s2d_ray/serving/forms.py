"""The form that a client wants its answer in: by OpenAI's `response_format`, or by vLLM's `structured_outputs`."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import from_json

from s2d_ray.recipes.answer_format import ANY_OBJECT, AnswerFormat, Choices, Pattern, Schema
from s2d_ray.recipes.strict import Strict


class NamedSchema(Strict):
    """A schema as OpenAI's API wraps it."""

    json_schema: Schema = Field(alias="schema")
    name: str | None = Field(None, max_length=64)
    description: str | None = Field(None, max_length=1024)
    strict: bool | None = None
    """Answers keep to the schema whatever this says."""


class ResponseFormat(Strict):
    """OpenAI's way to ask for a form."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: NamedSchema | None = None

    @model_validator(mode="after")
    def _has_its_schema(self) -> Self:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("json_schema goes with the type json_schema, and with no other")
        return self

    @property
    def answer_format(self) -> AnswerFormat | None:
        """The form; None where any text will do."""
        if self.type == "text":
            return None
        return AnswerFormat(json_schema=self.json_schema.json_schema if self.json_schema else dict(ANY_OBJECT))


def _read(schema: object) -> object:
    """vLLM takes a schema as text, too."""
    # As the request itself is read: what is no JSON to it reaches no engine this way either.
    return from_json(schema, allow_inf_nan=False) if isinstance(schema, str) else schema


class StructuredOutputs(Strict):
    """vLLM's way to ask for a form; one of the four."""

    json_schema: Annotated[Schema | None, BeforeValidator(_read)] = Field(None, alias="json")
    json_object: Literal[True] | None = None
    choice: Choices | None = None
    regex: Pattern | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if [self.json_schema, self.json_object, self.choice, self.regex].count(None) != 3:
            raise ValueError("exactly one of json, json_object, choice and regex")
        return self

    @property
    def answer_format(self) -> AnswerFormat:
        """The form."""
        schema: dict[str, Any] | None = dict(ANY_OBJECT) if self.json_object else self.json_schema
        return AnswerFormat(json_schema=schema, choice=self.choice, regex=self.regex)

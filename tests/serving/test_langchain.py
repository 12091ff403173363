"""The server as LangChain's client asks it: with fields of its own, and with what it keeps of a conversation."""

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from pydantic import BaseModel

from s2d_ray.recipes.recipe import Recipe
from tests.serving.gateways import QUESTION, make_gateway, served_recipe, serving
from tests.serving.test_web import stored

# Where the environment is of before this was among the dependencies of development.
chat_models = pytest.importorskip("langchain_openai")


def recipe(script: str) -> Recipe:
    """The student answers by a script."""
    engine = {"kind": "scripted", "script": f"tests.serving.gateways:{script}"}
    return served_recipe(engine=engine, serve={"weights": {"student": 1}})


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A server that always gives the same answer."""
    with serving(make_gateway(recipe("steady"), tmp_path), recipe("steady")) as at:
        yield at


def chat(address: str, **options: object):  # type: ignore[no-untyped-def]
    """LangChain's chat model over the server."""
    named = {"model": "s2d", "base_url": f"{address}/v1", "api_key": "none", "max_retries": 0}
    return chat_models.ChatOpenAI(**{**named, **options})


def test_chats_streams_and_conversations(address: str, tmp_path: Path) -> None:
    model = chat(address, temperature=0, seed=1, stop=["\n\n"], max_tokens=64)
    first = model.invoke([("system", "Be brief."), ("human", QUESTION)])
    assert (first.content, first.response_metadata["finish_reason"]) == ("answer 4", "stop")
    assert first.usage_metadata["output_tokens"] == 2
    # What it was answered goes back as its own message.
    assert model.invoke([("human", QUESTION), first, ("human", "Sure?")]).content == "answer 4"
    pieces = list(chat(address, stream_usage=True).stream(QUESTION))
    assert "".join(piece.content for piece in pieces) == "answer 4"
    assert [piece.usage_metadata["output_tokens"] for piece in pieces if piece.usage_metadata] == [2]
    assert model.batch([QUESTION, "Another?"])[1].content == "answer 4"
    assert {row["outcome"] for row in stored(tmp_path)} == {"answered"}


def test_completions_come_in_lists_of_one(address: str) -> None:
    model = chat_models.OpenAI(model="s2d", base_url=f"{address}/v1", api_key="none", max_retries=0)
    assert model.invoke(QUESTION) == "answer 4"
    assert "".join(model.stream(QUESTION)) == "answer 4"


class Person(BaseModel):
    """What the script says."""

    name: str
    age: int


@pytest.mark.parametrize("method", ["json_schema", "json_mode"])
def test_structured_output_is_read_back(tmp_path: Path, method: str) -> None:
    with serving(make_gateway(recipe("person"), tmp_path), recipe("person")) as address:
        structured = chat(address).with_structured_output(Person, method=method)
        assert structured.invoke(QUESTION) == Person(name="Ada", age=36)


def test_mistakes_are_errors_that_it_knows(tmp_path: Path) -> None:
    with serving(make_gateway(recipe("choosy"), tmp_path), recipe("choosy")) as address:
        with pytest.raises(openai.BadRequestError, match="roles must alternate"):
            chat(address).invoke("[refused]")
        with pytest.raises(openai.BadRequestError) as too_long:
            chat(address).invoke("[long]")
        with pytest.raises(openai.BadRequestError, match="presence_penalty: not supported"):
            chat(address, presence_penalty=1).invoke(QUESTION)
        with pytest.raises(openai.BadRequestError, match="tools: not supported"):
            chat(address).bind_tools([Person]).invoke(QUESTION)
        with pytest.raises(openai.NotFoundError, match="no model gpt"):
            chat(address, model="gpt").invoke(QUESTION)
    assert too_long.value.code == "context_length_exceeded"
    assert type(too_long.value).__name__ == "OpenAIContextOverflowError"

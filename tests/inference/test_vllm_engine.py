"""The real vLLM on a tiny random model."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

from s2d_ray.data.records import Completion, Message, Prompt, assistant, user
from s2d_ray.inference.engine import Activity, EngineDied, EngineError, PromptTooLong, RefusedRequest
from s2d_ray.inference.method_runs import run_method
from s2d_ray.inference.timed import TimedEngine
from s2d_ray.inference.vllm_engine import VllmEngine
from s2d_ray.methods.registry import load_method
from s2d_ray.recipes.answer_format import AnswerFormat
from s2d_ray.recipes.sections import Engine, Sampling
from s2d_ray.recipes.strict import Named
from tests.tiny_model import CHAT_TEMPLATE, make_thinking_model, make_tiny_model

pytestmark = pytest.mark.engine
GREEDY = Sampling(temperature=0, top_p=1, max_tokens=12)


Work = Callable[[VllmEngine], Awaitable[None]]


async def started(model: Path, adapter: Path | None = None, **settings: object) -> VllmEngine:
    return VllmEngine(Engine(max_model_len=1024, max_sequences=16, **settings), model, adapter=adapter)


def with_engine(model: Path, work: Work, adapter: Path | None = None, **settings: object) -> None:
    """Does `work` with an engine that is closed afterwards."""

    async def inside() -> None:
        engine = await started(model, adapter, **settings)
        try:
            await work(engine)
        finally:
            engine.close()

    asyncio.run(inside())


@pytest.fixture(scope="module")
def with_shared_engine(tiny_model: Path) -> Iterator[Callable[[Work], None]]:
    """Does work with one engine that starts once for several tests, with the tiny model in it."""

    async def afresh(engine: VllmEngine, work: Work) -> None:
        await engine.load(tiny_model)
        await work(engine)

    with asyncio.Runner() as runner:
        engine = runner.run(started(tiny_model, logprobs=True))
        yield lambda work: runner.run(afresh(engine, work))
        engine.close()


def test_completions_of_the_real_engine(
    with_shared_engine: Callable[[Work], None], tiny_model: Path, tmp_path: Path
) -> None:
    other_embeddings = make_tiny_model(tmp_path / "all", seed=1)
    same_embeddings = make_tiny_model(tmp_path / "most", seed=1, embedding_seed=0)

    async def work(engine: VllmEngine) -> None:
        chat = [user("Which country is the city of Lyon in?")]
        [greedy] = await engine.complete(chat, GREEDY, 1, seed=1)
        [again, twin] = await engine.complete(chat, GREEDY, 2, seed=2)
        assert greedy.text == again.text == twin.text
        assert 0 < greedy.completion_tokens <= 12
        assert greedy.prompt_tokens > 10
        assert greedy.finish_reason in ("stop", "length")

        warm = Sampling(temperature=1.0, top_p=1, max_tokens=12)
        three = await engine.complete(chat, warm, 3, seed=7)
        assert len({c.text for c in three}) > 1
        assert [c.text for c in await engine.complete(chat, warm, 3, seed=7)] == [c.text for c in three]
        assert [c.text for c in await engine.complete(chat, warm, 3, seed=8)] != [c.text for c in three]

        long = [user("Lyon " * 120)]
        first, second = [(await engine.complete(long, GREEDY, 1, seed=0))[0] for _ in range(2)]
        assert second.cached_tokens > 0, "the prefix cache is off"
        assert first.prompt_tokens == second.prompt_tokens

        with pytest.raises(EngineError, match="max_model_len is 1024"):
            await engine.complete([user("Lyon " * 2000)], GREEDY, 1, seed=0)
        # The engine goes on after a request that it could not serve.
        assert await engine.complete(chat, GREEDY, 1, seed=1) == await engine.complete(chat, GREEDY, 1, seed=1)

        await watch_a_burst(engine)

        method = load_method(Named(name="s2a", prompts="few_shot"))
        [sample] = await run_method(method, Prompt("id", chat), engine, GREEDY, 1, seed=0)
        assert [step.name for step in sample.steps] in (["rewrite"], ["rewrite", "respond"])

        # Longer than a cache block, so that keys and values of the weights before would show.
        for model in (same_embeddings, other_embeddings):
            await engine.load(model)
            [other] = await engine.complete(long, GREEDY, 1, seed=0)
            assert other.cached_tokens == 0
            # The first letters: later ones are a matter of rounding with random weights.
            assert other.text[:4] == greedy_text(model, long)[:4] != first.text[:4]
        await engine.load(tiny_model)
        assert (await engine.complete(long, GREEDY, 1, seed=0))[0].text == first.text

    with_shared_engine(work)


WARM = Sampling(temperature=1, top_p=1, max_tokens=60)
OF_TWO_FIELDS = {
    "type": "object",
    "properties": {"b": {"type": "integer", "minimum": 0, "maximum": 99}, "a": {"enum": ["x", "y"]}},
    "required": ["b", "a"],
    "additionalProperties": False,
}


def test_an_answer_has_the_form_that_is_asked_for_and_mistakes_are_the_requests(
    tiny_model: Path, tmp_path: Path
) -> None:
    strict = copytree(tiny_model, tmp_path / "strict")
    (strict / "chat_template.jinja").write_text(
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + CHAT_TEMPLATE
    )

    async def work(engine: VllmEngine) -> None:
        chat = [user("Which country is the city of Lyon in?")]
        forms = [AnswerFormat(choice=("yes", "no way")), AnswerFormat(regex="[a-c]{3}[0-9]")]
        for form in (*forms, AnswerFormat(json_schema=OF_TWO_FIELDS), AnswerFormat(json_schema={"type": "object"})):
            held = WARM.model_copy(update={"answer_format": form})
            for completion in await engine.complete(chat, held, 3, seed=1):
                assert form.fits(completion.text) or completion.finish_reason == "length"
        *pieces, whole = [piece async for piece in engine.stream(chat, held_to(choice=("yes", "no way")), seed=2)]
        assert isinstance(whole, Completion)
        assert "".join(map(str, pieces)) == whole.text in ("yes", "no way")

        refused = {
            "stop cannot contain an empty string": WARM.model_copy(update={"stop": ("",)}),
            "not supported by xgrammar": held_to(json_schema={"type": "integer", "multipleOf": 3}),
            "Cannot find field": held_to(json_schema={"$ref": "#/nowhere"}),
            "Lookbehind": held_to(regex="(?<=a)b"),
        }
        for problem, sampling in refused.items():
            with pytest.raises(RefusedRequest, match=problem):
                await engine.complete(chat, sampling, 1, seed=0)
        with pytest.raises(RefusedRequest, match="no system role"):
            await engine.complete([{"role": "system", "content": "Be brief."}, *chat], WARM, 1, seed=0)
        with pytest.raises(PromptTooLong):
            await engine.complete([user("Lyon " * 2000)], WARM, 1, seed=0)
        assert await engine.complete(chat, GREEDY, 1, seed=1)

    with_engine(strict, work)


def held_to(**form: Any) -> Sampling:
    """Sampling of an answer of that form."""
    return WARM.model_copy(update={"answer_format": AnswerFormat(**form)})


def test_a_stream_says_what_complete_does_and_ends_with_its_reader(with_shared_engine: Callable[[Work], None]) -> None:
    async def work(engine: VllmEngine) -> None:
        chat = [user("Which country is the city of Lyon in?")]
        [whole] = await engine.complete(chat, GREEDY, 1, seed=1)
        *pieces, last = [piece async for piece in engine.stream(chat, GREEDY, 1)]
        assert len(pieces) > 1
        assert isinstance(last, Completion)
        assert "".join(map(str, pieces)) == last.text == whole.text
        assert (last.completion_tokens, last.finish_reason) == (whole.completion_tokens, whole.finish_reason)
        assert whole.mean_logprob is not None
        assert -20 < whole.mean_logprob < 0
        assert last.mean_logprob == pytest.approx(whole.mean_logprob, rel=1e-3)

        endless = engine.stream(chat, Sampling(temperature=1, top_p=1, max_tokens=900), 1)
        await anext(endless)
        assert engine._engine.output_processor.has_unfinished_requests()
        await endless.aclose()
        assert not engine._engine.output_processor.has_unfinished_requests()

        waiting = asyncio.ensure_future(engine.complete(chat, Sampling(temperature=1, max_tokens=900), 1, seed=0))
        await asyncio.sleep(0.3)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert not engine._engine.output_processor.has_unfinished_requests()
        with pytest.raises(EngineError, match="max_model_len is 1024"):
            await anext(engine.stream([user("Lyon " * 2000)], GREEDY, 0))

    with_shared_engine(work)


def test_a_thought_is_apart_from_the_text_and_ends_within_its_budget(tmp_path: Path) -> None:
    thinking = make_thinking_model(tmp_path / "thinking")

    async def work(engine: VllmEngine) -> None:
        chat = [user("Which country is the city of Lyon in?")]
        on = GREEDY.model_copy(update={"thinking": True})

        [off] = await engine.complete(chat, GREEDY, 1, seed=0)
        assert off.text
        assert not off.thought
        [cut] = await engine.complete(chat, on, 1, seed=0)
        assert (cut.text, cut.finish_reason, cut.completion_tokens) == ("", "length", 12)
        assert cut.thought

        for budget in (0, 4):
            limited = on.model_copy(update={"thinking_tokens": budget})
            [ended] = await engine.complete(chat, limited, 1, seed=0)
            assert ended.text
            assert cut.thought.startswith(ended.thought)
            assert bool(ended.thought) == bool(budget)
            assert "think" not in ended.thought + ended.text
            # The thought, its end and the text: all of it counts.
            assert ended.completion_tokens == 12
            *pieces, last = [piece async for piece in engine.stream(chat, limited, 0)]
            assert "".join(map(str, pieces)) == ended.text
            assert last == ended
        # By the template's switch alone, and with a stop text that is in the thought.
        stop = cut.thought[0]
        switched = {"template": {"enable_thinking": True}, "thinking_tokens": 4, "stop": (stop,)}
        [stopped] = await engine.complete(chat, GREEDY.model_copy(update=switched), 1, seed=0)
        assert (stopped.thought, stopped.text) == (ended.thought, ended.text.partition(stop)[0])
        *pieces, last = [piece async for piece in engine.stream(chat, GREEDY.model_copy(update=switched), 0)]
        assert isinstance(last, Completion)
        assert ("".join(map(str, pieces)), last.thought) == (stopped.text, stopped.thought)
        form = AnswerFormat(choice=("yes", "no way"))
        for thinks in (True, False):
            asked = {"thinking": thinks, "thinking_tokens": 4, "answer_format": form, "max_tokens": 40}
            held = GREEDY.model_copy(update=asked)
            [formed] = await engine.complete(chat, held, 1, seed=0)
            assert formed.text in ("yes", "no way")
            assert bool(formed.thought) == thinks, "the thought is free of the form"
            *pieces, last = [piece async for piece in engine.stream(chat, held, 0)]
            assert ("".join(map(str, pieces)), last) == (formed.text, formed)
        three = on.model_copy(update={"thinking_tokens": 4, "temperature": 1.0})
        drawn = await engine.complete(chat, three, 3, seed=1)
        assert all(c.thought and "think" not in c.thought + c.text for c in drawn)
        # What ends a turn in this template is no end of a text.
        [ends] = engine._parameters([1], GREEDY, 1, 0).stop_token_ids
        assert engine._renderer.tokenizer.decode([ends]) == "<|end|>"
        # One that is limited beside one that is not.
        both = await asyncio.gather(engine.complete(chat, limited, 1, 0), engine.complete(chat, on, 1, 0))
        assert [c.thought for [c] in both] == [ended.thought, cut.thought]

    with_engine(thinking, work)


def test_one_engine_answers_with_an_adapter_and_without(tiny_model: Path, tmp_path: Path) -> None:
    adapter, merged = make_adapter(tiny_model, tmp_path)

    async def work(engine: VllmEngine) -> None:
        chat, one_token = [user("Which country is the city of Lyon in?")], GREEDY.model_copy(update={"max_tokens": 1})
        expected = [best_logprob(model, chat) for model in (tiny_model, merged)]
        assert abs(expected[0] - expected[1]) > 0.2
        arms = [engine, engine.adapted()]
        for arm, other in (arms, arms[::-1]):
            # In one batch with a request of the other kind.
            endless = other.stream(chat, Sampling(temperature=1, top_p=1, max_tokens=900), 1)
            await anext(endless)
            answers = [(await each.complete(chat, one_token, 1, seed=0))[0].mean_logprob for each in (arm, other)]
            assert answers == pytest.approx(expected if arm is engine else expected[::-1], abs=0.05)
            assert engine._engine.output_processor.has_unfinished_requests()
            await endless.aclose()

    with_engine(tiny_model, work, adapter, logprobs=True)


def test_a_given_reply_is_as_likely_as_transformers_finds_it(tiny_model: Path, tmp_path: Path) -> None:
    other = make_tiny_model(tmp_path / "other", seed=1, embedding_seed=0)
    chat = [user("Which country is the city of Lyon in?"), assistant("I think the answer is France. 答えはフランス。")]
    # One that is longer than a cache block, asked about twice: the cache must not hide what is asked for.
    long = [user("Lyon " * 60), assistant("Peru " * 60)]

    async def work(engine: VllmEngine) -> None:
        for model in (tiny_model, other):
            await engine.load(model)
            for messages in (chat, long, long):
                expected = reply_logprobs(model, messages)
                assert await engine.score(messages) == pytest.approx(expected, abs=0.02)
                assert max(map(abs, expected)) > 2
        together = await asyncio.gather(*(engine.score(messages) for messages in [chat, long] * 8))
        assert [len(scores) for scores in together] == [len(reply_logprobs(other, each)) for each in (chat, long)] * 8
        with pytest.raises(EngineError, match="max_model_len is 1024"):
            await engine.score([user("Lyon?"), assistant("Lyon " * 2000)])

    with_engine(tiny_model, work, dtype="float32")


def reply_logprobs(model: Path, messages: list[Message]) -> list[float]:
    """Log-probabilities of the last turn's tokens and the end token, by transformers."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    given = tokenizer.apply_chat_template(messages[:-1], add_generation_prompt=True, tokenize=True, return_dict=False)
    reply = tokenizer.encode(messages[-1]["content"] + "<|im_end|>", add_special_tokens=False)
    logits = AutoModelForCausalLM.from_pretrained(model, dtype="float32")(torch.tensor([[*given, *reply]])).logits
    log_probabilities = logits[0, len(given) - 1 : -1].detach().log_softmax(-1)
    return [float(each[token]) for each, token in zip(log_probabilities, reply, strict=True)]


def best_logprob(model: Path, messages: list[Message]) -> float:
    """Log-probability of the likeliest next token, by transformers."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    chat = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    logits = AutoModelForCausalLM.from_pretrained(model, dtype="float32")(**chat).logits
    return float(logits[0, -1].log_softmax(-1).max())


def make_adapter(base: Path, folder: Path) -> tuple[Path, Path]:
    """A random adapter of a model, and the model with it merged into its weights."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(3)
    config = LoraConfig(r=4, lora_alpha=64, target_modules="all-linear", init_lora_weights=False)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype="float32"), config)
    model.save_pretrained(folder / "adapter")
    model.merge_and_unload().to(torch.bfloat16).save_pretrained(folder / "merged")
    AutoTokenizer.from_pretrained(base).save_pretrained(folder / "merged")
    return folder / "adapter", folder / "merged"


async def watch_a_burst(engine: VllmEngine) -> None:
    """More calls than it takes at once (16): it says so, and that it is done; one that is too slow is aborted."""
    endless = Sampling(temperature=1.0, top_p=1, max_tokens=900)
    before = time.monotonic()
    burst = [asyncio.ensure_future(engine.complete([user("Lyon?")], endless, 2, seed=i)) for i in range(20)]
    seen = list[Activity]()
    while not any(call.done() for call in burst) and len(seen) < 2000:
        await asyncio.sleep(0.01)
        seen.append(engine.activity())
    assert max(now.running for now in seen) == 16
    assert all(now.running + now.waiting == 40 for now in seen[:-1])
    for call in burst:
        call.cancel()
    # Sequences enough to take any machine longer than that, in which tokens come all the time.
    with pytest.raises(EngineError, match="no answer within"):
        await TimedEngine(engine, 2.0).complete([user("Lyon?")], endless, 500, seed=1)
    # Those that were cancelled no longer take places: this one is the only one.
    await engine.complete([user("Lyon?")], GREEDY, 1, seed=0)
    now = engine.activity()
    assert (now.running, now.waiting) == (0, 0)
    assert before < now.progressed


def greedy_text(model: Path, messages: list[Message]) -> str:
    """What transformers makes of the chat with this model."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    chat = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    made = AutoModelForCausalLM.from_pretrained(model, dtype="bfloat16").generate(
        **chat, do_sample=False, max_new_tokens=GREEDY.max_tokens
    )
    return str(tokenizer.decode(made[0, chat["input_ids"].shape[1] :], skip_special_tokens=True))


def test_a_dead_engine_says_so(with_shared_engine: Callable[[Work], None]) -> None:
    """The last test of this file: it leaves no engine to share."""

    async def work(engine: VllmEngine) -> None:
        import psutil

        for child in psutil.Process().children(recursive=True):
            # Linux cuts names to 15 letters; engines of earlier tests may still be zombies.
            if child.name().startswith("VLLM::EngineCor") and child.status() != psutil.STATUS_ZOMBIE:
                child.kill()
        with pytest.raises(EngineDied):
            await asyncio.wait_for(engine.complete([user("Lyon?")], GREEDY, 1, seed=0), timeout=60)

    with_shared_engine(work)

"""A thought told from the text after it, in whatever pieces both come."""

import pytest

from s2d_ray.errors import UserError
from s2d_ray.rendering.thoughts import THINK, Marks, Split, marks_of
from tests.rendering.families import FAMILIES, TEMPLATES

GPT_OSS, GEMMA_4, MISTRAL = (marks_of("", name) for name in ("openai_gptoss", "gemma4", "mistral"))
TEXTS = [
    # Marks, whether the prompt opened the thought, whether one was asked for; what is generated; thought and text.
    (THINK, False, False, "Lyon.", "", "Lyon."),
    (THINK, False, False, "<think>\nHm.\n</think>\n\nLyon.", "Hm.", "Lyon."),
    (THINK, False, False, "\n<think>Hm.</think>Lyon <think>.", "Hm.", "Lyon <think>."),
    (THINK, False, False, "Write <think> and </think>.", "", "Write <think> and </think>."),
    (THINK, False, False, "<thin ice>", "", "<thin ice>"),
    (THINK, False, False, " a < b", "", " a < b"),
    (THINK, False, False, "<think>Hm", "Hm", ""),
    (THINK, False, False, "<think>\n\n</think>\n\nLyon.", "", "Lyon."),
    (THINK, True, True, "Hm.\n</think>\n\n Lyon.\n", "Hm.", "Lyon.\n"),
    (THINK, True, True, "Hm. Is it", "Hm. Is it", ""),
    (THINK, True, True, "</think>Lyon.", "", "Lyon."),
    (THINK, False, True, "Hm.</think>Lyon.", "Hm.", "Lyon."),
    (THINK, False, True, "Lyon.", "", "Lyon."),
    (THINK, True, False, "", "", ""),
    (None, True, True, "<think>Hm.</think>Lyon.", "", "<think>Hm.</think>Lyon."),
    (MISTRAL, False, False, "[THINK]Hm.[/THINK]Lyon.", "Hm.", "Lyon."),
    (GEMMA_4, False, True, "<|channel>thought\nHm.\n<channel|>Lyon.", "Hm.", "Lyon."),
    (
        GPT_OSS,
        False,
        False,
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Lyon.",
        "Hm.",
        "Lyon.",
    ),
    (GPT_OSS, False, False, "<|channel|>final<|message|>Lyon.", "", "Lyon."),
    (GPT_OSS, False, False, "<|channel|>analysis<|message|>Hm", "Hm", ""),
    (GPT_OSS, False, False, "Lyon.", "", "Lyon."),
]


@pytest.mark.parametrize(("marks", "opened", "expected", "generated", "thought", "text"), TEXTS)
def test_a_thought_is_told_from_the_text_whatever_the_pieces(
    marks: Marks | None, opened: bool, expected: bool, generated: str, thought: str, text: str
) -> None:
    cuts = [[generated], list(generated)]
    cuts += [[generated[:place], generated[place:]] for place in range(len(generated))]
    for pieces in cuts:
        split = Split(marks, opened, expected)
        said = [split.add(piece) for piece in pieces] + [split.finish()]
        assert (split.thought, split.text) == (thought, text), pieces
        assert "".join(said) == text


@pytest.mark.parametrize(
    ("marks", "opened", "stop", "generated", "thought", "text", "stopped"),
    [
        (THINK, True, ["\n"], "Hm.\nSo.</think>\n\nLyon.\nMore", "Hm.\nSo.", "Lyon.", True),
        (THINK, True, ["think"], "Hm.</think>Lyon.", "Hm.", "Lyon.", False),
        (THINK, True, ["END"], "Hm. END", "Hm. END", "", False),
        (THINK, False, ["END", "\n\n"], "<think>END\n\n</think>\n\nIt E EN\nEND.", "END", "It E EN\n", True),
        (THINK, False, ["abc", "b"], "abcd", "", "a", True),
        (GPT_OSS, False, ["a"], "<|channel|>final<|message|>It was", "", "It w", True),
        (None, False, [".", "Lyon"], "Lyon.", "", "", True),
        (None, False, ["Lyons"], "In Lyon", "", "In Lyon", False),
    ],
)
def test_a_stop_text_ends_what_is_said_and_is_a_word_like_others_in_a_thought(
    marks: Marks | None, opened: bool, stop: list[str], generated: str, thought: str, text: str, stopped: bool
) -> None:
    for place in range(len(generated)):
        for pieces in ([generated[:place], generated[place:]], list(generated)):
            split = Split(marks, opened, stop=stop)
            said = [split.add(piece) for piece in pieces] + [split.finish()]
            assert (split.thought, split.text, "".join(said)) == (thought, text, text), pieces
            assert split.stopped == stopped


def test_a_text_without_a_thought_is_not_held_back() -> None:
    split = Split(THINK)
    assert [split.add(piece) for piece in ("It", " is", " so")] == ["It", " is", " so"]


def test_a_template_s_marks_choose_what_is_a_thought() -> None:
    found = {name: marks_of((TEMPLATES / f"{name}.jinja").read_text()) for name in FAMILIES}
    assert {name for name, marks in found.items() if marks is None} == {"llama3", "gemma"}
    assert found["gpt_oss"] == GPT_OSS
    assert found["magistral"] == MISTRAL
    assert found["granite"] == marks_of("", "granite") != THINK
    assert {found[name] for name in found if name.startswith(("qwen", "deepseek", "nemotron", "smol"))} == {THINK}


def test_a_recipe_s_parser_goes_before_the_template_s_marks() -> None:
    assert marks_of("{{ messages }}", "deepseek_r1") == THINK
    assert marks_of("<think>", "none") is None
    with pytest.raises(UserError, match=r"reasoning: deepthink is not known here; there are .*deepseek_r1"):
        marks_of("<think>", "deepthink")


@pytest.mark.slow
def test_the_marks_are_those_of_vllm_s_parsers() -> None:
    from vllm.reasoning import ReasoningParserManager

    from tests.rendering.families import tokenizer_of

    tokenizer = tokenizer_of("qwen3")
    tokenizer.add_tokens([mark for marks in _known() for mark in (marks.start, marks.end)])
    compared = set[str]()
    for marks in _known():
        for name in marks.parsers:
            try:
                made = ReasoningParserManager.get_reasoning_parser(name)
                parser = made(tokenizer, chat_template_kwargs={"enable_thinking": True, "thinking": True})
            except (
                ImportError,
                LookupError,
                RuntimeError,
                ValueError,
            ):  # Some want a package or tokens that are not here.
                continue
            if parser.reasoning_start_str and parser.reasoning_end_str:
                theirs = parser.reasoning_start_str.strip(), parser.reasoning_end_str.strip()
                assert (marks.start.strip().startswith(theirs[0]), marks.names[1]) == (True, theirs[1]), name
                compared.add(name)
    assert {"deepseek_r1", "qwen3", "nemotron_v3", "gemma4", "seed_oss"} <= compared


def _known() -> set[Marks]:
    from s2d_ray.rendering.thoughts import _FAMILIES

    return set(_FAMILIES)

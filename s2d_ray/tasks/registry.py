"""The registry of tasks. A new one is a file beside this and a line in `TASKS`."""

from collections.abc import Mapping

from s2d_ray.errors import UserError
from s2d_ray.imports import import_class
from s2d_ray.recipes.strict import Named, parse
from s2d_ray.tasks.biased_trivia import BiasedTrivia
from s2d_ray.tasks.coin_flip import CoinFlip
from s2d_ray.tasks.geonames import Geonames
from s2d_ray.tasks.gsm8k import Gsm8k
from s2d_ray.tasks.judge import Judge
from s2d_ray.tasks.last_letter import LastLetter
from s2d_ray.tasks.prompt_file import PromptFile
from s2d_ray.tasks.task import Task

TASKS: Mapping[str, type[Task]] = {
    "last_letter": LastLetter,
    "coin_flip": CoinFlip,
    "biased_trivia": BiasedTrivia,
    "judge": Judge,
    "gsm8k": Gsm8k,
    "geonames": Geonames,
    "prompts": PromptFile,
}


def load_task(section: Named) -> Task:
    """The task of a recipe with its options checked.

    Raises UserError for an unknown name or option, or a class of another kind.
    """
    if ":" in section.name:
        task: type[Task] = import_class(section.name, Task)
    elif section.name in TASKS:
        task = TASKS[section.name]
    else:
        raise UserError(f"no task {section.name}: shipped are {', '.join(TASKS)}; your own is my_module:MyTask")
    return parse(task, section.options, where=f"task {section.name}")

"""JSON files whose form is known and counted, so that another version's file is refused and not misread."""

from pathlib import Path
from typing import Any, Literal, Self

from s2d_ray.data.files import parse_json
from s2d_ray.errors import UserError
from s2d_ray.recipes.strict import Strict, parse


class Versioned(Strict):
    """Base of what is kept in a file of its own."""

    schema_version: Literal[1] = 1
    """Of the file's form; files from before it was counted have none, and are read as the first."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """The content of a file. Raises UserError where it is of a form that is not known, Damaged where of none."""
        return cls.parsed(path.read_bytes(), path)

    @classmethod
    def parsed(cls, content: bytes, path: Path) -> Self:
        """What `read` gives, where the content of `path` is at hand."""
        found: dict[str, Any] = parse_json(content, path)
        try:
            version = found.get("schema_version", 1)
            if version != 1:
                raise UserError(f"{path}: schema_version is {version}, and not 1")
            return parse(cls, found, where=str(path))
        except UserError as error:
            raise UserError(
                f"{error}; another version of s2d wrote it: go on with that one, or choose another --root"
            ) from error

    def to_json(self) -> dict[str, Any]:
        """As it is written: without what is not there."""
        return self.model_dump(mode="json", exclude_none=True)

"""Records: dataclasses that are kept in files, and checked when they are read."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import pathlib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from cellclass_tf.errors import InputError
from cellclass_tf.storage import csv_json

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclasses.dataclass(frozen=True)
class Record:
    """Base of frozen dataclasses that are kept in a file, with the version of its format.

    In the file it is a mapping of its fields, after `format`: NAME and VERSION.

    Attributes:
      NAME: of the format.
      VERSION: of the format. Raise it if an older program would misread what this one
        writes, and let `upgraded` bring older content to it.
      EXPECTED: what the file should be, for messages.
      REMEDY: what to do where it is not, for messages.
    """

    NAME: ClassVar[str]
    VERSION: ClassVar[int] = 1
    EXPECTED: ClassVar[str]
    REMEDY: ClassVar[str]

    @classmethod
    def read(cls, path: str | os.PathLike) -> Self:
        """Reads the JSON file of a record.

        Raises:
          InputError: if it does not exist, or is no such record.
        """
        try:
            text = pathlib.Path(path).read_text(encoding="utf-8")
            content = json.loads(text)
        except (OSError, ValueError, RecursionError) as error:
            raise cls._refusal(path, f"{type(error).__name__}: {error}") from error
        return cls.parse(content, path)

    @classmethod
    def parse(
        cls, content: Any, source: str | os.PathLike, *, strict: bool = True
    ) -> Self:
        """Makes a record of what JSON or YAML holds.

        Args:
          content: a mapping; fields that it lacks get their defaults, and what is no
            field is left out.
          source: the file that it is from, for messages.
          strict: False to take '0.5' for a number, and 488 for a text, as people write
            them into YAML.

        Raises:
          InputError: if it is no such record, or one of a newer version.
        """
        import pydantic

        if not isinstance(content, Mapping):
            raise cls._refusal(source, f"a {type(content).__name__}, not a mapping")
        version = cls._version_of(content, source)
        try:
            content = cls.upgraded(dict(content), version)
            # Classes can be hashed; mypy takes this one for a record that cannot.
            adapter: pydantic.TypeAdapter[Self] = _adapter(cls)  # type: ignore[arg-type]
            if not strict:
                return adapter.validate_python(content)
            # As JSON, in which a list is a tuple.
            return adapter.validate_json(json.dumps(content), strict=True)
        except pydantic.ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(map(str, first["loc"]))
            # Of what a record checks of itself, which names its field.
            told = first["msg"].removeprefix("Value error, ")
            why = ": ".join(filter(None, (place, told)))
            raise cls._refusal(source, why) from error
        except InputError as error:
            raise cls._refusal(source, str(error).rstrip(".")) from error
        except (KeyError, TypeError, ValueError) as error:
            raise cls._refusal(source, f"{type(error).__name__}: {error}") from error

    @classmethod
    def upgraded(cls, content: dict[str, Any], version: int) -> dict[str, Any]:
        """Returns content of an older version as this one's.

        Args:
          content: a mapping that may hold anything.
          version: of its format; 1 if it names none.

        Raises:
          KeyError, TypeError, ValueError or InputError: if it cannot be used.
        """
        return content

    def as_content(self) -> dict[str, Any]:
        """Returns what the file holds: the format, and every field as JSON has it."""
        return {"format": f"{self.NAME} {self.VERSION}", **dataclasses.asdict(self)}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: Any, handler: Any
    ) -> dict[str, Any]:
        """Returns the JSON Schema of what `as_content` returns: with the format."""
        schema = handler.resolve_ref_schema(handler(core_schema))
        written = {"format": {"const": f"{cls.NAME} {cls.VERSION}"}}
        schema["properties"] = written | schema["properties"]
        return schema

    def write(self, path: str | os.PathLike) -> None:
        """Writes the record as JSON, whole or not at all."""
        csv_json.write_json(path, self.as_content())

    @classmethod
    def _version_of(cls, content: Mapping[str, Any], source: str | os.PathLike) -> int:
        text = content.get("format", f"{cls.NAME} 1")
        found = re.fullmatch(rf"{re.escape(cls.NAME)} (\d{{1,9}})", str(text))
        if not found:
            raise cls._refusal(source, f"its format is {text!r}")
        if int(found[1]) > cls.VERSION:
            raise InputError(
                f"{source}: its format is {text!r}, and this version of cellclass_tf "
                f"reads it up to {cls.VERSION}. Update cellclass_tf."
            )
        return int(found[1])

    @classmethod
    def _refusal(cls, source: str | os.PathLike, why: str) -> InputError:
        return InputError(f"{source}: expected {cls.EXPECTED}; {why}. {cls.REMEDY}")


@functools.cache
def _adapter(cls: type[Record]) -> Any:
    import pydantic

    return pydantic.TypeAdapter(cls)

"""Records: dataclasses that are stored in files, and validated when they are read."""

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
    """Base class of frozen dataclasses that are stored in files with a format version.

    The file is a mapping: `format` (NAME and VERSION), followed by the record's fields.

    Attributes:
      NAME: name of the format.
      VERSION: version of the format. Increase it if older programs would misread new
        files, and convert older content in `upgraded`.
      EXPECTED: description of the expected file, for messages.
      REMEDY: what to do if the file is not valid, for messages.
    """

    NAME: ClassVar[str]
    VERSION: ClassVar[int] = 1
    EXPECTED: ClassVar[str]
    REMEDY: ClassVar[str]

    @classmethod
    def read(cls, path: str | os.PathLike) -> Self:
        """Reads the JSON file of a record.

        Raises:
          InputError: if the file does not exist, or is not such a record.
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
        """Makes a record from the content of a JSON or YAML file.

        Args:
          content: a mapping. Missing fields get their defaults, and keys that are not
            fields are ignored.
          source: path of the file, for messages.
          strict: whether types must match. If False, '0.5' may be a number and 488 a text,
            as people write them in YAML.

        Raises:
          InputError: if the content is not such a record, or has a newer version.
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
            # Validated as JSON, where lists are accepted for tuples.
            return adapter.validate_json(json.dumps(content), strict=True)
        except pydantic.ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(map(str, first["loc"]))
            # The record's own checks already name the field.
            told = first["msg"].removeprefix("Value error, ")
            why = ": ".join(filter(None, (place, told)))
            raise cls._refusal(source, why) from error
        except InputError as error:
            raise cls._refusal(source, str(error).rstrip(".")) from error
        except (KeyError, TypeError, ValueError) as error:
            raise cls._refusal(source, f"{type(error).__name__}: {error}") from error

    @classmethod
    def upgraded(cls, content: dict[str, Any], version: int) -> dict[str, Any]:
        """Converts content of an older version to the present one.

        Args:
          content: the mapping, which has not been validated.
          version: version of its format; 1 if the content has no `format`.

        Raises:
          KeyError, TypeError, ValueError or InputError: if it cannot be converted.
        """
        return content

    def as_content(self) -> dict[str, Any]:
        """Returns the content of the file: the format, and every field."""
        return {"format": f"{self.NAME} {self.VERSION}", **dataclasses.asdict(self)}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: Any, handler: Any
    ) -> dict[str, Any]:
        """Returns the JSON Schema of `as_content`, which includes the format."""
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
                f"{source}: its format is {text!r}, but this version of cellclass_tf "
                f"reads versions up to {cls.VERSION}. Update cellclass_tf."
            )
        return int(found[1])

    @classmethod
    def _refusal(cls, source: str | os.PathLike, why: str) -> InputError:
        return InputError(f"{source}: expected {cls.EXPECTED}; {why}. {cls.REMEDY}")


@functools.cache
def _adapter(cls: type[Record]) -> Any:
    import pydantic

    return pydantic.TypeAdapter(cls)

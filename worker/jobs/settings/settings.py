"""All settings of one process."""

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import PrivateAttr, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from worker.jobs.errors import ConfigurationError
from worker.jobs.settings.api import Api
from worker.jobs.settings.batches import Batches
from worker.jobs.settings.general import General
from worker.jobs.settings.jobs import Jobs
from worker.jobs.settings.sources import PREFIX, SecretFiles, Variables, file_variable, variable
from worker.jobs.settings.webhooks import Webhooks
from worker.jobs.settings.workers import Workers

__all__ = ["Setting", "Settings"]

#: In the order of the documentation.
AREAS = General, Api, Workers, Jobs, Batches, Webhooks


@dataclass(frozen=True, slots=True)
class Setting:
    """The description of one setting. Its values are texts as in the environment, and None if it is unset."""

    area: str
    variable: str
    value: str | None
    default: str | None
    #: `stack` means the running `stoker up`.
    source: Literal["default", "environment", "file", "stack"]
    #: A secret's value is `***`.
    secret: bool
    #: In Markdown.
    description: str


# pydantic lists the fields of the last base first.
class Settings(Webhooks, Batches, Jobs, Workers, Api, General, BaseSettings):
    """The settings of one process. Each field is read from `STOKER_<FIELD>`.

    A secret is also read from the file that `STOKER_<FIELD>_FILE` names.
    """

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", defer_build=False, env_prefix=PREFIX, env_ignore_empty=True,
        enable_decoding=False,  # a list is text with commas, not JSON
        allow_inf_nan=False,
    )  # fmt: skip

    #: The files that secrets were read from, by field.
    _files: dict[str, str] = PrivateAttr(default_factory=dict)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return only the arguments, so that `Settings(…)` does not depend on the environment."""
        return (init_settings,)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read `STOKER_*` from `environ`, by default that of this process. An empty value counts as unset.

        A secret `X` without a value is read from the file that `STOKER_X_FILE` names.

        Raises `ConfigurationError`, whose message names the variable, if a value is not valid or a file
        cannot be read.
        """
        environ = os.environ if environ is None else environ
        values = Variables(cls, environ)()
        files = SecretFiles(cls, environ, given=values)
        return cls._validated(values | files(), files.paths)

    def replace(self, **changes: object) -> Self:
        """Return a copy with those of the changes that are not None. Raises `ConfigurationError`."""
        kept = {name: value for name, value in changes.items() if value is not None}
        values = {name: getattr(self, name) for name in self.model_fields_set}
        return self._validated(
            values | kept, {name: file for name, file in self._files.items() if name not in kept}
        )

    @classmethod
    def _validated(cls, values: Mapping[str, Any], files: dict[str, str]) -> Self:
        try:
            settings = cls.model_validate(values)
        except ValidationError as error:
            raise ConfigurationError(_message(error.errors()[0], files)) from None
        settings._files = files
        return settings

    def to_env(self, names: Collection[str] | None = None) -> dict[str, str]:
        """Return these settings, or those with these names, as environment variables, for a child process.

        A secret that came from a file stays there, because other programs can read a process' environment.
        """
        names = type(self).model_fields if names is None else names
        values = self._texts(exclude=set(self._files))
        variables = {variable(name): value for name in names if (value := values.get(name)) is not None}
        return variables | {file_variable(name): self._files[name] for name in names if name in self._files}

    def completed(self, environ: Mapping[str, str]) -> Self:
        """Return a copy that takes the settings that nobody has given from these variables.

        Raises `ConfigurationError`.
        """
        given = {named(name) for named in (variable, file_variable) for name in self.model_fields_set}
        others = {name: value for name, value in environ.items() if name not in given}
        return self.from_env(others | self.to_env(self.model_fields_set))

    def _texts(self, exclude: set[str] | None = None) -> dict[str, str | None]:
        """Return the values as in the environment, by field."""
        values = self.model_dump(mode="json", exclude=exclude)
        return {name: None if value is None else _text(value) for name, value in values.items()}

    def describe(self) -> list[Setting]:
        """Return the description of each setting, in the order of the documentation."""
        values, defaults = self._texts(), Settings()._texts()
        return [
            Setting(
                area=str(area.model_config["title"]),
                variable=variable(name),
                value="***" if values[name] and not field.repr else values[name] or None,
                default=defaults[name] or None,
                source=self._source(name),
                secret=not field.repr,
                description=" ".join((field.description or "").split()),
            )
            for area in AREAS
            for name, field in area.model_fields.items()
        ]

    def _source(self, name: str) -> Literal["default", "environment", "file"]:
        if name in self._files:
            return "file"
        return "environment" if name in self.model_fields_set else "default"

    @property
    def device_locks_dir(self) -> Path:
        """The folder of the device locks."""
        return (self.locks_dir or self.home_dir / "locks").expanduser().absolute()


def _text(value: object) -> str:
    return str(value).removesuffix(".0") if isinstance(value, float) else str(value)


def _message(error: ErrorDetails, files: Mapping[str, str]) -> str:
    """Return one sentence that names the variable and, in a list, the part that is not valid."""
    name, *place = map(str, error["loc"])
    message = error["msg"].removeprefix("Value error, ")
    if place and str(error["input"]) not in message:
        message = f"{error['input']}: {message}"
    return f"{file_variable(name) if name in files else variable(name)}: {message}"

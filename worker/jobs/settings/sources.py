"""The sources of settings: environment variables, and the files of secrets that variables name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource
from pydantic_settings.sources.utils import parse_env_vars

from worker.jobs.errors import ConfigurationError

__all__ = ["PREFIX", "SecretFiles", "Variables", "file_variable", "variable"]

PREFIX = "STOKER_"


def variable(name: str) -> str:
    """Return the variable of the setting `name`."""
    return PREFIX + name.upper()


def file_variable(name: str) -> str:
    """Return the variable that names the file with the secret `name`."""
    return f"{variable(name)}_FILE"


class Variables(EnvSettingsSource):
    """Reads the setting `x` from the variable `STOKER_X`."""

    def __init__(self, settings: type[BaseSettings], environ: Mapping[str, str]) -> None:
        self._environ = environ
        super().__init__(settings)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return parse_env_vars(self._environ, self.case_sensitive, self.env_ignore_empty)


class SecretFiles(PydanticBaseSettingsSource):
    """Reads the secret `x`, if `given` has none, from the file that `STOKER_X_FILE` names."""

    def __init__(
        self, settings: type[BaseSettings], environ: Mapping[str, str], given: Mapping[str, object]
    ) -> None:
        super().__init__(settings)
        secrets = [name for name, field in settings.model_fields.items() if not field.repr]
        files = {name: environ.get(file_variable(name)) for name in secrets if name not in given}
        #: The paths of the files, by setting.
        self.paths = {name: path for name, path in files.items() if path}

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[str, str, bool]:
        """Return the content of the setting's file, without a line break at its end.

        Raises `ConfigurationError` if the file cannot be read or is empty.
        """
        path = self.paths[field_name]
        try:
            secret = Path(path).read_text("utf-8").removesuffix("\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigurationError(
                f"{file_variable(field_name)}: {path} cannot be read: {reason}"
            ) from None
        if not secret:
            raise ConfigurationError(f"{file_variable(field_name)}: {path} is empty")
        return secret, field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return the secrets that are read from files, by setting."""
        fields = self.settings_cls.model_fields
        return {name: self.get_field_value(fields[name], name)[0] for name in self.paths}

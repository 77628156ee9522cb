"""Every setting, read once from FEEDBACKLOOP_* variables or one TOML file.

Nested names are joined by two underscores: ``FEEDBACKLOOP_SIDECAR__BIND``. The TOML file is
named by ``FEEDBACKLOOP_SETTINGS_FILE``, and a variable outranks it. Unknown names are refused.
"""

import os
import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings import SettingsError as UnreadableError

from feedbackloop.errors import SettingsError
from services.sections.access import Keys, Limits, Oidc
from services.sections.archive import Archiver, FolderArchive, ObjectArchive, Sql
from services.sections.learning import Canary, Dataset, Gate, Labels, Scheduler, Training
from services.sections.log import KafkaLog, MemoryLog, SegmentLog
from services.sections.redaction import Redaction
from services.sections.section import AliasName
from services.sections.serving import AliasSettings, Retries, Sidecar, Vllm

_PREFIX = "FEEDBACKLOOP_"
_FILE = "SETTINGS_FILE"
_NO_JSON = (UnreadableError, RecursionError)
_DEFAULT_KINDS = {"log": "segments", "archive": "folder"}
_TAGS = {"segments", "kafka", "memory", "folder", "object", "[key]"}


class Settings(BaseSettings):
    """All settings. Defaults run on one machine."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX,
        env_nested_delimiter="__",
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )

    home: Path = Path(".feedbackloop")
    """Folder of everything that this machine keeps."""

    database: str = ""
    """SQLAlchemy URL of runs and releases; empty means ``state.db`` in the home folder."""

    log: Annotated[SegmentLog | KafkaLog | MemoryLog, Field(discriminator="kind")] = SegmentLog()
    archive: Annotated[FolderArchive | ObjectArchive, Field(discriminator="kind")] = FolderArchive()
    archiver: Archiver = Archiver()
    sql: Sql = Sql()
    keys: Keys = Keys()
    limits: Limits = Limits()
    oidc: Oidc = Oidc()
    sidecar: Sidecar = Sidecar()
    aliases: dict[AliasName, AliasSettings] = {}
    vllm: Vllm = Vllm()
    retries: Retries = Retries()
    redaction: Redaction = Redaction()
    labels: Labels = Labels()
    dataset: Dataset = Dataset()
    training: Training = Training()
    gate: Gate = Gate()
    canary: Canary = Canary()
    scheduler: Scheduler = Scheduler()

    def upstream(self) -> str:
        """Return where vLLM is: ``unix:/path`` or a URL."""
        socket = self.vllm.socket or str(self.home.resolve() / "run" / "vllm.sock")
        return self.sidecar.upstream or f"unix:{socket}"

    def database_url(self) -> str:
        """Return the SQLAlchemy URL of the state database."""
        return self.database or f"sqlite:///{self.home.resolve() / 'state.db'}"

    @model_validator(mode="before")
    @classmethod
    def _default_kind(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Give a section without a kind the default one."""
        for section, kind in _DEFAULT_KINDS.items():
            given = data.get(section)
            if isinstance(given, dict) and "kind" not in given:
                data = {**data, section: {"kind": kind, **given}}
        return data

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read variables first, then what the TOML file gave as initial values."""
        del settings_cls, dotenv_settings, file_secret_settings
        return env_settings, init_settings


def load() -> Settings:
    """Read the settings, and refuse any FEEDBACKLOOP_ variable that names no setting.

    Raises:
        SettingsError: If a variable or a name in the file is unknown, missing or out of range.
    """
    named = {
        name.removeprefix(_PREFIX)
        for name in os.environ
        if name.startswith(_PREFIX) and not name.startswith(_PREFIX + "TEST_")
    } - {_FILE}
    unknown = {name for name in named if name.split("__")[0].lower() not in Settings.model_fields}
    if unknown:
        names = ", ".join(sorted(_PREFIX + name for name in unknown))
        raise SettingsError(f"no such settings: {names}")
    try:
        return Settings(**_file())
    except ValidationError as error:
        raise SettingsError(_explain(error)) from error
    except _NO_JSON as error:
        # It names the section alone, and its cause quotes the value, which may be a secret.
        names = ", ".join(filter(_is_unreadable, sorted(_PREFIX + name for name in named)))
        raise SettingsError(f"{names}: expected JSON, as in docs/settings.md") from error


def _file() -> dict[str, Any]:
    """Read the TOML file that the environment names, if it names one."""
    path = os.environ.get(_PREFIX + _FILE)
    if path is None:
        return {}
    try:
        with Path(path).open("rb") as file:
            return tomllib.load(file)
    except RecursionError as error:
        raise SettingsError(f"{_PREFIX}{_FILE}={path}: it is nested too deeply") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{_PREFIX}{_FILE}={path}: {error}") from error


def _is_unreadable(name: str) -> bool:
    """Say whether a variable holds a list or a mapping that is not written as JSON."""
    source = EnvSettingsSource(Settings)
    source.env_vars = {name.lower(): os.environ[name]}
    try:
        source()
    except _NO_JSON:
        return True
    return False


def _explain(error: ValidationError) -> str:
    """Name each setting that is wrong as a variable, and what was expected."""
    lines = []
    for problem in error.errors(include_input=False, include_url=False):
        parts = [str(part) for part in problem["loc"] if str(part) not in _TAGS]
        name = _PREFIX + "__".join(parts).upper()
        message = "no such setting" if problem["type"] == "extra_forbidden" else problem["msg"]
        lines.append(f"{name}: {message}")
    return "; ".join(lines)

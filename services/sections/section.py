"""What every group of settings is like, and the values that they share."""

from re import compile as regex
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Seconds = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Tenant = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,32}$")]
# It stands in names of releases, and these in headers and paths.
AliasName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$")]
KIND = regex(r"[A-Z][A-Z0-9_]{0,30}[A-Z0-9]")
Kind = Annotated[str, Field(pattern=f"^{KIND.pattern}$")]
Room = Annotated[int, Field(ge=2**20)]
"""Bytes that something real has to fit in."""

_MOST_PORT = 65_535


def _with_a_port(address: str) -> str:
    if int(address.rpartition(":")[2]) > _MOST_PORT:
        raise ValueError(f"expected a port up to {_MOST_PORT}")
    return address


Address = Annotated[
    str,
    Field(pattern=r"^(\[[0-9a-fA-F:]+\]|[^:\s]+):\d{1,5}$"),
    AfterValidator(_with_a_port),
]


class Section(BaseModel):
    """A group of settings: frozen, and strict about names."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, hide_input_in_errors=True
    )

"""What every group of settings is like, and the values that they share."""

from re import compile as regex
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Seconds = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Tenant = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,32}$")]
# It stands in names of releases, and these in headers and paths.
AliasName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$")]
KIND = regex(r"[A-Z][A-Z0-9_]{0,30}[A-Z0-9]")
Kind = Annotated[str, Field(pattern=f"^{KIND.pattern}$")]
Address = Annotated[str, Field(pattern=r"^(\[[0-9a-fA-F:]+\]|[^:\s]+):\d{1,5}$")]


class Section(BaseModel):
    """A group of settings: frozen, and strict about names."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, hide_input_in_errors=True
    )

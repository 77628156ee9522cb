"""Where the archive is, and how it gets there."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr

from services.sections.section import Address, Count, Seconds, Section


class FolderArchive(Section):
    """A folder of a file system with hard links."""

    kind: Literal["folder"] = "folder"

    path: Path | None = None
    """The folder; left out, ``archive`` in the home folder."""


class ObjectArchive(Section):
    """A bucket of S3, or of what speaks like it; Google's and Azure's too."""

    kind: Literal["object"] = "object"

    url: Annotated[str, Field(pattern=r"^(s3|gs|az)://[^/\s]+")]
    """``s3://bucket/prefix``, ``gs://...`` or ``az://...``; the bucket has to exist."""

    endpoint: str = ""
    """Address of a server that is not the cloud's own, such as ``http://minio:9000``."""

    region: str = ""
    """Region of the bucket; empty leaves it to the environment."""

    access_key: SecretStr = SecretStr("")
    """Key id; empty leaves it to the environment, such as a service account or instance role."""

    secret_key: SecretStr = SecretStr("")
    """Secret of the key id."""

    def options(self) -> dict[str, str]:
        """Return what obstore wants to know."""
        found = {
            "endpoint": self.endpoint,
            "region": self.region,
            "access_key_id": self.access_key.get_secret_value(),
            "secret_access_key": self.secret_key.get_secret_value(),
        }
        return {name: value for name, value in found.items() if value}


class Sql(Section):
    """How the archive is asked: ``feedbackloop sql``."""

    memory_bytes: Annotated[int, Field(ge=2**26)] = 2**30
    """What a query may use of memory; beyond it, it goes to a folder in the home folder."""


class Archiver(Section):
    """The process that writes the archive."""

    enabled: bool = True
    """Whether ``feedbackloop up`` starts one."""

    bind: Address = "127.0.0.1:9092"
    """Address of its health and metrics."""

    rotate_seconds: Annotated[float, Field(gt=0)] = 60.0
    """A file is published at the latest this long after its first event was read."""

    file_bytes: Annotated[int, Field(ge=2**16)] = 64 * 2**20
    """A file is published at the latest once it has this size."""

    memory_bytes: Annotated[int, Field(ge=2**20)] = 256 * 2**20
    """Events that wait in memory, over all partitions; above it the largest file is published."""

    window_entries: Count = 50_000
    """How many events back, in a partition, a repeat is left out; views count exactly anyway."""

    sealed_bytes: Annotated[int, Field(ge=2**16)] = 128 * 2**20
    """Files are sealed into one of about this size, or into one for each day if that is less."""

    grace_seconds: Seconds = 3_600.0
    """How long files stay after they were sealed into another: queries may still read them."""

    keep_days: Count = 0
    """Whole days that the archive keeps; 0 keeps everything."""

    upkeep_seconds: Annotated[float, Field(gt=0)] = 300.0
    """How often it looks for files to seal, and for those to take away."""

    poll_seconds: Annotated[float, Field(gt=0)] = 1.0
    """How long it waits before it looks for events again when there were none."""

    drain_seconds: Seconds = 20.0
    """How long it may publish what it has read after SIGTERM."""

    group: str = "feedbackloop.archive"
    """Kafka consumer group by which archivers share partitions."""

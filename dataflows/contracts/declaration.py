"""What contract.yaml says, typed; unknown keys are refused."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

Handling = Literal["drop", "hash", "mask"]
Name = Annotated[str, Meta(min_length=1)]


class Sum(Struct, frozen=True, forbid_unknown_fields=True):
    """An exact sum: the money at `parts` (`<array>.<field>`) adds up to the field `total`."""

    parts: Annotated[str, Meta(pattern=r"^[a-z0-9_]+\.[a-z0-9_]+\Z")]
    total: Name


class Warehouse(Struct, frozen=True, forbid_unknown_fields=True):
    """The source's table: partitioned by the day of one field, clustered by others."""

    partition_by: Name
    cluster_by: Annotated[tuple[str, ...], Meta(max_length=4)] = ()


class Declaration(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole of contract.yaml.

    `version` names the schema file. `key` is the field that keys the source's records, `dedup_key`
    the one whose repetition makes a duplicate, `user` the one that names the person an event is
    about. `require_user` has ingest refuse an event without that person, where the schema does not.
    `reference` marks a source that others are joined to, as of their event time. `pii` maps dotted
    paths of text to what happens to them before they are stored.
    """

    version: Annotated[str, Meta(pattern=r"^v[1-9][0-9]*\Z")]
    description: str = ""
    owner: Name
    topic: Annotated[str, Meta(pattern=r"^raw\.[a-z0-9_.-]+\Z", max_length=200)]
    partitions: Annotated[int, Meta(ge=1, le=1024)] = 1
    key: Name
    user: Name | None = None
    require_user: bool = False
    event_time: Name
    dedup_key: Name
    reference: bool = False
    retention_days: Annotated[int, Meta(ge=1, le=3650)]
    compatibility: Literal["additive"] = "additive"
    pii: dict[str, Handling] = {}
    sums: tuple[Sum, ...] = ()
    warehouse: Warehouse

"""The fields of a contract that a file can fill, by dotted path (`payment.card_id`)."""

from __future__ import annotations

from collections.abc import Mapping

from dataflows.contracts import Contract
from dataflows.contracts.shapes import Map, Object, Shape
from services.publisher.errors import PublishError, listing, suggestion


class Fields:
    """What may and what must be filled. `shapes` holds every path in the schema's order.

    Fields inside arrays have no path of their own: the array is filled as a whole, with JSON.
    """

    def __init__(self, contract: Contract) -> None:
        self.source = contract.source
        self.shapes: dict[str, Shape] = {}
        self._required: dict[str, list[str]] = {}
        self._collect(contract.shape, "")
        if contract.require_user and contract.user is not None:
            self._required[""] = list(dict.fromkeys([*self._required[""], contract.user]))

    def shape(self, path: str) -> Shape:
        """The shape of `path`. Raises PublishError with the nearest names when there is no such."""
        if path in self.shapes:
            return self.shapes[path]
        parent = self.shapes.get(path.rpartition(".")[0])
        if isinstance(parent, Map):
            return parent.values
        raise PublishError(
            f"the contract {self.source} has no field {path!r}"
            f"{suggestion(path, self.shapes)}: its fields are {listing(self.shapes, 40)}"
        )

    def __contains__(self, path: str) -> bool:
        """Whether `path` is a field, or a member of an object with free names."""
        return path in self.shapes or isinstance(self.shapes.get(path.rpartition(".")[0]), Map)

    def missing(self, given: Mapping[str, object]) -> list[str]:
        """Required fields that `given` paths leave out, in objects that are given at all."""
        lacking = []
        for parent, names in self._required.items():
            if not parent or any(path.startswith(f"{parent}.") for path in given):
                paths = [f"{parent}.{name}" if parent else name for name in names]
                lacking += [path for path in paths if not _is_given(path, given)]
        return lacking

    def _collect(self, shape: Object, parent: str) -> None:
        self._required[parent] = [field.name for field in shape.fields.values() if field.required]
        for field in shape.fields.values():
            path = f"{parent}.{field.name}" if parent else field.name
            self.shapes[path] = field.shape
            if isinstance(field.shape, Object):
                self._collect(field.shape, path)


def _is_given(path: str, given: Mapping[str, object]) -> bool:
    return path in given or any(other.startswith(f"{path}.") for other in given)

"""What the flows of one process share: contracts, log, rules, reference data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from dataflows.connectors.log import Log
from dataflows.contracts import Contract, load_contracts
from dataflows.flows.pseudonyms import load_key
from dataflows.flows.reference import ReferenceData
from dataflows.flows.topology import Topology, topology
from dataflows.runtime.config import Config
from dataflows.runtime.slot import Slot

if TYPE_CHECKING:
    from dataflows.detection.behaviours import Behaviours
    from dataflows.detection.metrics import Metrics
    from dataflows.detection.payment_model import PaymentModel
    from dataflows.detection.rules import RuleSet
    from dataflows.features.declared import DeclaredFeatures


@dataclass(frozen=True)
class Shop:
    """The composition root's parts, made once a process."""

    config: Config
    log: Log
    contracts: Mapping[str, Contract] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "contracts", self._load_contracts())

    def _load_contracts(self) -> Mapping[str, Contract]:
        longest = self.config.slots.max_record_bytes
        return load_contracts(Path(self.config.schemas), max_record_bytes=longest)

    @cached_property
    def topology(self) -> Topology:
        return topology(self.contracts, self.config)

    @cached_property
    def rules(self) -> RuleSet:
        from dataflows.detection.rules import load_rules  # only scoring needs the SQL parser

        return load_rules(Path(self.config.rules), self.declared.catalogue)

    @cached_property
    def champion(self) -> PaymentModel | None:
        from dataflows.detection.payment_model import open_champion

        return open_champion(self.config.models_path, self.declared)

    @cached_property
    def declared(self) -> DeclaredFeatures:
        from dataflows.flows.feature_files import declared_features

        return declared_features(self.config)

    @cached_property
    def metrics(self) -> Metrics:
        from dataflows.flows.metric_files import configured_metrics

        return configured_metrics(self.config, self.contracts)[0]

    @cached_property
    def behaviours(self) -> Behaviours:
        from dataflows.detection.behaviours import load_behaviours  # as for rules

        return load_behaviours(Path(self.config.behaviours))

    @cached_property
    def pii_key(self) -> bytes:
        return load_key(self.config.data_path)

    @cached_property
    def reference(self) -> ReferenceData:
        return ReferenceData(self.log, self.topology)

    def contract(self, topic: str) -> Contract:
        """The contract of the source that a topic belongs to: `late.labels` -> labels."""
        return self.contracts[topic.partition(".")[2]]

    def slots(self, flow: str) -> list[Slot]:
        return [
            Slot(flow, topic, partition, self.log, self.config)
            for topic, partition in self.topology.slots(flow)
        ]

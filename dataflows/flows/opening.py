"""The composition root: a shop on its log, with every topic there."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from bytewax.dataflow import Dataflow

from dataflows.connectors.log import SQLITE_SCHEME, TopicPolicy, open_log
from dataflows.errors import TidegateError
from dataflows.flows.shop import Shop
from dataflows.runtime.config import Config
from dataflows.runtime.slot import Slot


def open_shop(config: Config) -> Shop:
    """Opens the log and, unless `topics.create` is off, makes the topics that are missing.

    Raises:
        TidegateError: contracts, configuration or log cannot be used, or topics are missing.
    """
    shop = connect_shop(config)
    topics = shop.topology.topics
    missing = shop.log.missing_topics(topics)
    if missing and not config.topics.create:
        others = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise TidegateError(
            f"{config.bus_url} has no topic {missing[0]}{others}, and topics.create is off; make "
            "them with `tidegate topics apply`"
        )
    if missing:
        shop.log.create_topics(topics, shop.topology.keep_s)
    return shop


def connect_shop(config: Config) -> Shop:
    """Opens the log as it is, whatever topics it has.

    Raises:
        TidegateError: contracts, configuration or log cannot be used.
    """
    if config.bus_url.startswith(SQLITE_SCHEME):
        try:
            config.data_path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TidegateError(
                f"{config.data_path}: cannot be made ({error.strerror}); set data_dir to a "
                "directory you may write"
            ) from error
    topics = config.topics
    policy = TopicPolicy(topics.create, topics.replication_factor, topics.min_insync_replicas)
    return Shop(config, open_log(config.bus_url, config.kafka, policy))


def builder(shop: Shop, flow: str) -> Callable[[Slot], Dataflow]:
    """How the flow is built for a slot; only this flow's module is imported."""
    build = getattr(import_module(f"dataflows.flows.{flow}"), flow)
    return lambda slot: build(slot, shop)

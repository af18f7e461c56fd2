"""The way to a purchase: of a session the furthest step that it came to is told."""

from typing import Final

FUNNEL: Final = ("visit", "product_view", "cart", "checkout", "purchase")

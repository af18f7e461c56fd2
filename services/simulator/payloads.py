"""The events as they are written to JSON: field for field what schemas/ asks for.

`Raw` fields hold JSON that is the same in many events and was encoded once.
"""

from __future__ import annotations

from msgspec import Raw, Struct, UnsetType


class Device(Struct):
    device_id: str
    user_agent: str
    language: str


class Geo(Struct):
    country: str
    city: str


class Click(Struct):
    event_id: str
    event_type: str
    event_timestamp: str
    user_id: str
    page_url: str
    page_title: str
    referrer: str | UnsetType
    product_id: str | UnsetType
    category: str | UnsetType
    search_query: str | UnsetType
    quantity: int | UnsetType
    order_id: str | UnsetType
    cart: Cart | UnsetType
    device: Raw
    ip_address: str
    geo: Raw
    campaign: str | UnsetType


class Cart(Struct):
    cart_id: str
    item_count: int
    value: str


class Item(Struct):
    product_id: str
    quantity: int
    unit_price: str
    amount: str


class PaidBy(Struct):
    method: str
    card_id: str | UnsetType
    card_country: str | UnsetType


class Transaction(Struct):
    transaction_id: str
    user_id: str
    event_timestamp: str
    total_amount: str
    currency: str
    items: list[Item]
    status: str
    payment: PaidBy
    device: Raw | UnsetType
    terminal_id: str | UnsetType
    ip_address: str | UnsetType
    shipping_country: str | UnsetType
    order_id: str


class TicketEvent(Struct):
    event_id: str
    ticket_id: str
    event_type: str
    event_timestamp: str
    user_id: str
    channel: str
    category: str
    priority: str
    subject: str | UnsetType
    body: str | UnsetType
    order_id: str | UnsetType
    satisfaction: int | UnsetType
    agent_id: str | UnsetType


class ProductEvent(Struct):
    event_id: str
    product_id: str
    event_timestamp: str
    name: str
    category: str
    brand: str
    price: str
    currency: str
    stock: int
    active: bool
    tags: Raw
    attributes: Raw


class Address(Struct):
    line1: str
    city: str
    postal_code: str
    country: str


class ProfileEvent(Struct):
    event_id: str
    user_id: str
    event_timestamp: str
    email: str
    full_name: str
    phone: str
    date_of_birth: str
    address: Address
    segment: str
    marketing_opt_in: bool
    signed_up_at: str
    deleted_at: None


class LabelEvent(Struct):
    label_id: str
    transaction_id: str
    user_id: str
    event_timestamp: int
    verdict: str
    origin: str
    note: str

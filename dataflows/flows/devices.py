"""The class of a device from its user agent."""

from __future__ import annotations

from functools import lru_cache

from ua_parser import parse

_TABLETS = ("iPad", "Kindle", "Tablet", "SM-T", "Nexus 7", "Nexus 10")
_DESKTOPS = ("Windows", "Mac OS X", "Linux", "Ubuntu", "Chrome OS", "Fedora", "Debian", "FreeBSD")
_MOBILES = ("Android", "iOS", "Windows Phone", "BlackBerry OS", "KaiOS")


@lru_cache(maxsize=65_536)
def device_class(user_agent: str) -> str:
    """desktop, mobile, tablet, bot or other; user agents are parsed by ua-parser's rules."""
    found = parse(user_agent[:1_000])
    device = found.device.family if found.device else ""
    system = found.os.family if found.os else ""
    if device == "Spider":
        return "bot"
    if any(word in device or word in user_agent for word in _TABLETS):
        return "tablet"
    if system in _MOBILES:
        return "mobile"
    if system in _DESKTOPS:
        return "desktop"
    return "other"

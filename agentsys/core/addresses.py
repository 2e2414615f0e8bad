"""Which addresses may be called: the public Internet, and what the operator lets through.

IPv4 names what is refused, IPv6 names what is left: only 2000::/3 is routed, so whatever embeds or
tunnels an IPv4 address outside of it (mapped, compatible, NAT64) is refused without a rule of its own.
Source: IANA special-purpose address registries.  ``ipaddress.is_global`` is no help: it lets NAT64,
6to4 and multicast through.
"""

import ipaddress
import re
import socket
from asyncio import get_running_loop

from django.conf import settings

from agentsys.core.errors import AddressDenied, ToolUnavailable

_REFUSED_4 = tuple(
    map(
        ipaddress.IPv4Network,
        (
            "0.0.0.0/8",  # this network
            "10.0.0.0/8",
            "100.64.0.0/10",  # carrier-grade NAT
            "127.0.0.0/8",
            "168.63.129.16/32",  # a cloud's host agent at a public-looking address
            "169.254.0.0/16",  # link-local, with the clouds' metadata
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.88.99.0/24",  # 6to4 relays
            "192.168.0.0/16",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, broadcast
        ),
    )
)
_ROUTED_6 = ipaddress.IPv6Network("2000::/3")
_REFUSED_6 = tuple(
    map(
        ipaddress.IPv6Network,
        (
            "2001::/23",  # special purposes, with Teredo (2001::/32), benchmarking and ORCHID
            "2001:db8::/32",
            "2002::/16",  # 6to4
            "3fff::/20",  # documentation
        ),
    )
)
#: ISATAP: an interface identifier that ends in an IPv4 address.
_ISATAP = (0x0000_5EFE, 0x0200_5EFE)
_NUMERIC_LABEL = re.compile(r"(0x[0-9a-f]*|[0-9]+)", re.IGNORECASE)


def is_public(address: str) -> bool:
    """Whether an IP address, as the resolver wrote it, is one of the public Internet."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv4Address):
        return not any(ip in network for network in _REFUSED_4)
    if ip.scope_id is not None or ip not in _ROUTED_6 or any(ip in network for network in _REFUSED_6):
        return False
    return (int(ip) >> 32) & 0xFFFF_FFFF not in _ISATAP


def is_let_through(host: str, port: int) -> bool:
    """Whether settings.HTTP_ALLOW names this host, as it is written in the address, with this port."""
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return shown.lower() in {entry.lower() for entry in settings.HTTP_ALLOW}


async def resolve(host: str, port: int) -> list[str]:
    """The addresses of a host, every one of them checked; connect to these and resolve no more.

    Raises:
        AddressDenied: one of them is not public and HTTP_ALLOW does not let the host through.
        ToolUnavailable: the name cannot be resolved now.
    """
    let_through = is_let_through(host, port)
    if not let_through:
        _refuse_disguises(host)
    addresses = [host] if _is_address(host) else await _look_up(host, port)
    if not let_through and not all(map(is_public, addresses)):
        raise denied(host, port)
    return addresses


def denied(host: str, port: int) -> AddressDenied:
    return AddressDenied(
        f"{host}:{port} is not a public address.  An operator can let it through: AGENTSYS_HTTP_ALLOW.",
        host=host,
        port=port,
    )


def _refuse_disguises(host: str) -> None:
    """Numbers that only some resolvers read as addresses: 2130706433, 0x7f.1, 0177.0.0.1."""
    if _NUMERIC_LABEL.fullmatch(host.rstrip(".").rpartition(".")[2]) and not _is_address(host):
        raise AddressDenied(f"{host!r} is not how an address is written; use four decimal numbers.", host=host)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


async def _look_up(host: str, port: int) -> list[str]:
    try:
        found = await get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:  # gaierror; a label longer than DNS allows
        raise ToolUnavailable(f"The name {host!r} cannot be resolved.", host=host, sent=False) from error
    addresses = [str(entry[4][0]) for entry in found]
    if not addresses:
        raise ToolUnavailable(f"The name {host!r} has no address.", host=host, sent=False)
    return list(dict.fromkeys(addresses))

"""Reading attributes without running anything: no property, no `__getattr__`, no metaclass.

`inspect.getattr_static` is nearly that, but asks metaclasses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import GetSetDescriptorType, MappingProxyType
from typing import Any

_MRO = type.__dict__["__mro__"]
_NAMESPACE = type.__dict__["__dict__"]


def is_a(found: object, *kinds: type) -> bool:
    """Tell what something is by its type alone; proxies would claim to be what they stand for."""
    return issubclass(type(found), kinds)


def namespaces(cls: type) -> Iterator[MappingProxyType[str, Any]]:
    """Yield what a class and its bases define."""
    for base in _MRO.__get__(cls):
        yield _NAMESPACE.__get__(base)


def attribute_of_class(cls: type, name: str) -> Any:
    """Return what a class has under this name, as it stands there; None if it has nothing."""
    return next((names[name] for names in namespaces(cls) if name in names), None)


def attributes(found: object) -> Mapping[str, Any]:
    """Return an object's own attributes, unless its class has something to say about them."""
    descriptor = attribute_of_class(type(found), "__dict__")
    if type(descriptor) is not GetSetDescriptorType:
        return {}
    own = descriptor.__get__(found)
    return own if type(own) in (dict, MappingProxyType) else {}


def attribute(found: object, name: str) -> Any:
    """Return an attribute as it stands on the object or its class; None if there is none."""
    if is_a(found, type):
        return attribute_of_class(found, name)  # type: ignore[arg-type]
    own = attributes(found)
    return own[name] if name in own else attribute_of_class(type(found), name)

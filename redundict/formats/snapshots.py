"""Snapshots of a state that other threads go on changing. Knows no stores.

A dict or a list is copied by one call of its own, which the interpreter makes as a whole: with the
GIL because no other thread runs meanwhile, on a free-threaded build because the container's own
lock is held (PEP 703). So no container is seen in the middle of a change, and no iteration meets
one that changes its size. That the containers agree with each other is what a transaction is for.
"""

from __future__ import annotations

from typing import Any


def snapshot(state: dict[Any, Any]) -> dict[Any, Any]:
    """Return a copy of a state in which every dict and list is a copy, however deep.

    What is there twice, or contains itself, is and does so in the copy. Other objects, and
    subclasses of dict and list but for the state itself, are taken as they are.

    >>> inner = [1]
    >>> copy = snapshot({"a": inner, "b": inner})
    >>> copy["a"] is copy["b"], copy["a"] is inner
    (True, False)
    """
    root = dict(state)
    copies: dict[int, Any] = {id(state): root}
    kept: list[Any] = [state]  # an id is that of one object only as long as that is there
    unfinished: list[Any] = [root]
    while unfinished:
        container = unfinished.pop()
        items = enumerate(container) if type(container) is list else list(container.items())
        for key, value in items:
            if type(value) is not dict and type(value) is not list:
                continue
            if id(value) not in copies:
                copies[id(value)] = value.copy()
                kept.append(value)
                unfinished.append(copies[id(value)])
            container[key] = copies[id(value)]
    return root

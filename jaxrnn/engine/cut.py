"""The cheapest place to cut a computation in two: a minimum vertex cut.

Values made on one side of a loop and used on the other have to be kept for all
T steps. Which ones? Any set will do from which the rest can be recomputed by
light arithmetic, so the fewest bytes are a minimum cut of the graph of values
(max-flow min-cut, Ford & Fulkerson 1956; used for rematerialisation by
PyTorch's AOTAutograd).
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, TypeAlias

from jaxrnn.engine.jaxprs import Eqn, Var, reads

Node: TypeAlias = tuple[Var, bool] | str
Graph: TypeAlias = dict[Node, dict[Node, int]]
INFINITE = 1 << 62


class Cuts(NamedTuple):
    """Two sets of values of the same, least total cost."""

    early: set[Var]  # nearest to the inputs: the most to recompute
    late: set[Var]  # nearest to what is wanted: the least to recompute


def minimum_cuts(
    wanted: Iterable[Var], made_by: Mapping[Var, Eqn], cost: Callable[[Var], int]
) -> Cuts:
    """The sets of values of least total `cost` from which all of `wanted` can be recomputed.

    `made_by` maps a value to the equation that may recompute it; a value without one can only
    be kept.
    """
    # Each value is an edge (v, False) -> (v, True) of capacity cost(v); a path from the
    # source to the sink is a way to carry information from one side to the other.
    capacity: Graph = {"source": {}, "sink": {}}

    def connect(a: Node, b: Node, amount: int) -> None:
        capacity.setdefault(a, {})[b] = amount
        capacity.setdefault(b, {}).setdefault(a, 0)

    wanted = list(wanted)
    seen, stack = set(), list(wanted)
    while stack:
        v = stack.pop()
        if v in seen:
            continue
        seen.add(v)
        connect((v, False), (v, True), cost(v))
        inputs = reads(made_by[v]) if v in made_by else []
        if v not in made_by:
            connect("source", (v, False), INFINITE)
        for u in inputs:
            connect((u, True), (v, False), INFINITE)
        stack.extend(inputs)
    for v in wanted:
        connect((v, True), "sink", INFINITE)

    while path := _augmenting_path(capacity):
        amount = min(capacity[a][b] for a, b in path)
        for a, b in path:
            capacity[a][b] -= amount
            capacity[b][a] += amount

    reached = _search(capacity, "source", lambda a, b: capacity[a][b])
    reaching = _search(capacity, "sink", lambda a, b: capacity[b][a])
    return Cuts(
        early={v for v in seen if (v, False) in reached and (v, True) not in reached},
        late={v for v in seen if (v, False) not in reaching and (v, True) in reaching},
    )


def _augmenting_path(capacity: Graph) -> list[tuple[Node, Node]]:
    came_from = _search(capacity, "source", lambda a, b: capacity[a][b])
    path: list[tuple[Node, Node]] = []
    node: Node = "sink"
    while node in came_from and node != "source":
        path.append((came_from[node], node))
        node = came_from[node]
    return path


def _search(graph: Graph, start: Node, room: Callable[[Node, Node], int]) -> dict[Node, Node]:
    """Breadth-first search along edges with room left; where each node was reached from."""
    came_from: dict[Node, Node] = {start: start}
    queue: deque[Node] = deque([start])
    while queue:
        a = queue.popleft()
        for b in graph[a]:
            if b not in came_from and room(a, b) > 0:
                came_from[b] = a
                queue.append(b)
    return came_from

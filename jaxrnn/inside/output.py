"""What becomes of the output: added to the input, or projected, and fed back so."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.cells import parts as cell_parts
from jaxrnn.core import Cell
from jaxrnn.inside import parts
from jaxrnn.kit import check_count, promoting
from jaxrnn.named import named_leaves
from jaxrnn.origin import factory


@factory
def residual(cell: Cell) -> Cell:
    """Adds the input to the output.

        yₜ = xₜ + ỹₜ

    Raises:
      ValueError: when run, if x and y differ in structure or shape.

    Reference: for recurrent layers Wu et al., Google's neural machine translation system, 2016,
    arXiv:1609.08144; after He et al. 2015, arXiv:1512.03385.
    """
    name = f"residual({cell})"

    def step(params, carry, x, *key):
        carry, y = cell.step(params, carry, x, *key)
        return carry, add(name, x, y)

    together = cell.parallel
    if together is None:
        return parts.derived(cell, name=name, step=step)

    def parallel(params, carry, xs, **options):
        carry, ys = together(params, carry, xs, **options)
        return carry, add(name, xs, ys)

    return parts.derived(cell, name=name, step=step, parallel=parallel)


@promoting
def add(name: str, x: Any, y: Any) -> Any:
    shapes = [jax.tree.map(jnp.shape, tree) for tree in (x, y)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"{name} adds x to y and needs them alike, got x {shapes[0]} and y {shapes[1]};"
            " choose as many features as x has, or put a dense() layer in between"
        )
    return jax.tree.map(jnp.add, x, y)


class ProjectedParams(NamedTuple):
    cell: Any  # its recurrent weight has as many rows as there are projected features
    projection: Any  # [H, P]


@factory
def project(
    cell: Cell, features: int, *, projection_init: cell_parts.Initialiser = cell_parts.glorot
) -> Cell:
    """Projects the output, and lets the recurrence run in the projected space: LSTMP for an LSTM.

        hₜ, cₜ = cell(rₜ₋₁, cₜ₋₁, xₜ)        its recurrent weight is [P, ...], not [H, ...]
        rₜ = hₜ · P                            yₜ = rₜ

    Carry: that of the cell, with r [*batch, P] in the place of h.

    Args:
      cell: a cell whose output is a leaf of its carry that it reads in the product with its parameter
        `recurrent` only (an Elman network, an LSTM). Other combinators go around: zoneout(project(…)).
      features: P, at most H. The cell's initialiser draws [H, ...] and the first P rows are taken,
        which leaves an orthogonal draw with orthonormal rows.
      projection_init: of the projection [H, P].

    Raises:
      ValueError: if `features` is not a positive integer; when initialised, if it exceeds H or the
        cell is not of this kind.

    Reference: Sak, Senior & Beaufays, Long short-term memory based recurrent neural network
    architectures for large vocabulary speech recognition, 2014, arXiv:1402.1128.
    """
    name = f"project({cell}, {features})"
    check_count(name, "features", features)
    if cell.noise is not None:
        raise ValueError(
            f"{name}: project the cell first, and put the noise around: drop_connect(project(…))"
        )

    def init(key, x):
        k, p = jax.random.split(key)
        i, rows = _fed_back(name, cell, x)
        if features > rows:
            raise ValueError(f"{name} needs at most the {rows} features of {cell}, got {features}")
        params = cell.init(k, x)
        recurrent = _recurrent(name, params, rows)
        _check_reads(name, cell, params, x, recurrent, i)
        weight = named_leaves(params)[recurrent]
        projection = cell_parts.draw(projection_init, p, (rows, features), weight.dtype)
        return ProjectedParams(_with(params, recurrent, weight[:features]), projection)

    def carry(params, x):
        leaves, tree = jax.tree.flatten(cell.carry(params.cell, x))
        i, _ = _fed_back(name, cell, x)
        leaves[i] = (leaves[i] @ params.projection).astype(leaves[i].dtype)
        return tree.unflatten(leaves)

    def step(params, carry, x, *key):
        after, h = cell.step(params.cell, carry, x, *key)
        leaves, tree = jax.tree.flatten(after)
        i = next(i for i, leaf in enumerate(leaves) if leaf is h)
        leaves[i] = r = h @ params.projection
        return tree.unflatten(leaves), r

    return parts.wrap(cell, name=name, init=init, carry=carry, step=step)


def _fed_back(name: str, cell: Cell, x: Any) -> tuple[int, int]:
    """Which leaf of the carry the output is, and how many features it has."""
    found: list[tuple[int, int]] = []

    def probe(x):
        params = cell.init(jax.random.key(0), x)
        after, y = cell.step(params, cell.carry(params, x), x)
        found.extend((i, v.shape[-1]) for i, v in enumerate(jax.tree.leaves(after)) if v is y)
        return ()

    jax.eval_shape(probe, x)
    if not found:
        raise ValueError(
            f"{name} needs a cell whose output is a leaf of its carry (`return h, h`), and {cell}"
            " returns another; put a dense() layer after it"
        )
    return found[0]


def _recurrent(name: str, params: Any, rows: int) -> str:
    """The path of the recurrent weight."""
    leaves = named_leaves(params)
    found = [
        path
        for path, leaf in leaves.items()
        if path.split("/")[-1] == "recurrent" and leaf.shape[0] == rows
    ]
    if len(found) != 1:
        raise ValueError(
            f"{name} needs one parameter named recurrent, [{rows}, ...], got {', '.join(leaves)}"
        )
    return found[0]


def _with(params: Any, path: str, leaf: Any) -> Any:
    leaves = {**named_leaves(params), path: leaf}
    return jax.tree.unflatten(jax.tree.structure(params), list(leaves.values()))


def _check_reads(name: str, cell: Cell, params: Any, x: Any, recurrent: str, i: int) -> None:
    """Takes a step, of shapes alone, in a space of H + 1 features, to which nothing else fits.

    In the space asked for it might, by broadcasting: one feature goes with any number of them. The
    output is leaf `i` of the carry.
    """

    def step(params, x):
        leaves, tree = jax.tree.flatten(cell.carry(params, x))
        leaves[i] = jnp.concatenate([leaves[i], leaves[i][..., :1]], axis=-1)
        weight = named_leaves(params)[recurrent]
        wider = _with(params, recurrent, jnp.concatenate([weight, weight[:1]]))
        return cell.step(wider, tree.unflatten(leaves), x)

    try:
        jax.eval_shape(step, params, x)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name}: {cell} reads its carry outside the product with params.{recurrent}, so it"
            f" cannot run in another space ({error}); project() serves cells such as lstm(), and"
            " goes inside of other combinators"
        ) from error

"""The cells of xLSTM: exponential gates, kept finite by a running maximum."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.cells import memory, parts
from jaxrnn.cells.heads import blocks, check_heads, joined, outer, read, slab, split, titled
from jaxrnn.cells.lstm import gate_bias
from jaxrnn.core import Cell
from jaxrnn.kit import Features, cell
from jaxrnn.origin import factory
from jaxrnn.shapes import Array, Float


class MLSTMParams(NamedTuple):
    """Columns in the order i f, one for each head, o, and q k v, each of them head by head."""

    input: Float[Array, "D N"]
    bias: Float[Array, " N"]


class MLSTMCarry(NamedTuple):
    c: Any  # [*batch, heads, K, V]
    n: Any  # [*batch, heads, K]
    m: Any  # [*batch, heads]


@factory
def mlstm(
    features: int,
    *,
    heads: int = 1,
    key_features: int | None = None,
    forget_bias: Any = None,
    input_init: parts.Initialiser = parts.glorot,
    dtype: Any = None,
) -> Cell:
    """The matrix memory of xLSTM: linear attention with gates, the one of its input exponential.

        ĩ, f̃, õ, q, k, v = xₜ·W + b           each its columns, and each head by itself:
        mₜ = max(log σ(f̃) + mₜ₋₁, ĩ)           i = e^(ĩ − mₜ)     f = e^(log σ(f̃) + mₜ₋₁ − mₜ)
        Cₜ = f Cₜ₋₁ + i k vᵀ / √K
        nₜ = f nₜ₋₁ + i k / √K
        yₜ = σ(õ) ∘ Cₜᵀ q / max(|nₜ·q|, e^(−mₜ))

    The heads' outputs stand side by side. m makes no difference to y: e^m C and e^m n are the memory of
    the paper without it, whose gate e^ĩ may overflow.

    Carry: `MLSTMCarry(c, n, m)`, [*batch, heads, K, V], [*batch, heads, K] and [*batch, heads], at
    first 0. Structure: dense, because of m. `parallel` takes all steps at once, by products of matrices.

    Args:
      features: of y, heads × V.
      heads: how many memories there are side by side.
      key_features: K, of q and k of one head; V if None.
      forget_bias: what the bias of f̃ is initialised to, a number or one for each head; evenly spaced
        from 3 to 6 if None, as in the authors' code. May be traced.
      input_init: of the columns of W [D, 2 heads + features + 2 heads K + features] for each of them.
      dtype: of the parameters; that of x if None.

    Raises:
      ValueError: if `features`, `heads` or `key_features` is not a positive integer, or the heads do
        not divide the features.

    Reference: Beck et al., xLSTM: extended long short-term memory, 2024, arXiv:2405.04517, eq. 19–27
    and appendix A.2.
    """
    rows, columns = check_heads("mlstm", features, heads, key_features)
    name = titled("mlstm", features, heads=heads, key_features=key_features)
    widths = [heads, heads, features, heads * rows, heads * rows, features]

    def init(key, x):
        d, kind = x.shape[-1], x.dtype
        opened = jnp.linspace(3, 6, heads) if forget_bias is None else forget_bias
        return MLSTMParams(
            input=slab(input_init, key, d, widths, kind),
            bias=jnp.zeros(sum(widths), kind).at[heads : 2 * heads].set(jnp.asarray(opened, kind)),
        )

    carry = MLSTMCarry(Features(heads, rows, columns), Features(heads, rows), heads)

    def projected(p, x):
        i, f, o, *qkv = blocks(x @ p.input + p.bias, widths)
        q, k, v = (split(a, heads) for a in qkv)
        return i, jax.nn.log_sigmoid(f), parts.sigmoid(o), q, k / rows**0.5, v

    def output(o, numerator, product, m):
        # So far below 0 that exp(−m) would overflow, what it divides is 0 in any case.
        lowest = -0.9 * jnp.log(jnp.finfo(m.dtype).max).astype(m.dtype)
        bound = jnp.exp(-jnp.maximum(m, lowest))[..., None]
        return o * joined(divided(numerator, jnp.maximum(jnp.abs(product), bound)))

    def step(
        p: MLSTMParams, carry: MLSTMCarry, x: Float[Array, "*batch D"]
    ) -> tuple[MLSTMCarry, Float[Array, "*batch H"]]:
        i, f, o, q, k, v = projected(p, x)
        m = jnp.maximum(f + carry.m, i)
        i, f = jnp.exp(i - m)[..., None], jnp.exp(f + carry.m - m)[..., None]
        c = f[..., None] * carry.c + outer(i * k, v)
        n = f * carry.n + i * k
        return MLSTMCarry(c, n, m), output(o, read(c, q), read(n[..., None], q), m)

    def parallel(p, carry, xs, *, valid, resets, chunk):
        i, f, o, q, k, v = projected(p, xs)
        if valid is not None:  # what is not written has no weight
            i, f = jnp.where(valid[..., None], i, -jnp.inf), jnp.where(valid[..., None], f, 0)
        before, m = maxima(carry.m, f, i, resets)
        both = jnp.concatenate([carry.c, carry.n[..., None]], axis=-1)
        k = jnp.exp(i - m)[..., None] * k
        v = jnp.concatenate([v, jnp.ones_like(v[..., :1])], axis=-1)
        options = {"valid": valid, "resets": resets, "chunk": chunk}
        both, y = memory.linear(both, q, k, v, jnp.exp(f + before - m), **options)
        last = m[-1] if len(m) else carry.m
        carry = MLSTMCarry(both[..., :-1], both[..., -1], last.astype(carry.m.dtype))
        return carry, output(o, y[..., :-1], y[..., -1:], m)

    return cell(name, init, step, carry=carry, dtype=dtype, parallel=parallel)


def maxima(
    m: jax.Array, f: jax.Array, i: jax.Array, resets: jax.Array | None
) -> tuple[jax.Array, jax.Array]:
    """mₜ₋₁ and mₜ = max(fₜ + mₜ₋₁, iₜ) for all t, in 2√T steps instead of T.

    Two such maps of m make one of their kind, (f, i, whether m is forgotten). So √T blocks of √T steps
    each are put together, all of them side by side; then m goes from block to block. What is forgotten
    is selected away, as it may be NaN.
    """
    length = f.shape[0]
    forgets = jnp.zeros_like(f, dtype=bool)
    if resets is not None:
        forgets |= resets[..., None]
        i = jnp.where(forgets, jnp.maximum(f, i), i)
    size = max(1, round(length**0.5))
    count = -(-length // size)

    def cut(a, fill):
        filling = jnp.full_like(a, fill, shape=(count * size - length, *a.shape[1:]))
        a = jnp.concatenate([a, filling]).reshape(count, size, *a.shape[1:])
        return jnp.full_like(a, fill, shape=(count, *a.shape[2:])), jnp.moveaxis(a, 1, 0)

    def then(first, second):
        (f0, i0, forgets0), (f1, i1, forgets1) = first, second
        both = f0 + f1, jnp.where(forgets1, i1, jnp.maximum(f1 + i0, i1)), forgets0 | forgets1
        return both, both

    def of(m, to):
        f, i, forgets = to
        return jnp.where(forgets, i, jnp.maximum(f + m, i))

    same, steps = zip(cut(f, 0), cut(i, -jnp.inf), cut(forgets, False), strict=True)
    blocks, steps = jax.lax.scan(then, same, steps)
    m = m + jnp.zeros_like(f, shape=m.shape)
    _, starts = jax.lax.scan(lambda m, block: (of(m, block), m), m, blocks)
    after = jnp.moveaxis(of(starts, steps), 0, 1)
    after = after.reshape(count * size, *m.shape)[:length]
    before = jnp.concatenate([m[None], after])[:-1]
    return before if resets is None else jnp.where(resets[..., None], 0, before), after


def divided(a: jax.Array, b: jax.Array) -> jax.Array:
    """The quotient a / b, whose derivatives are finite where b² is 0 or ∞ and b is not.

    It is written as (a / |b|) / (b / |b|), and |b| is held: a / b again, whatever it is held at.
    """
    size = jax.lax.stop_gradient(jnp.abs(b))
    return (a / size) / (b / size)


class SLSTMParams(NamedTuple):
    """Columns in the order i f o z; those of `recurrent` are of one head."""

    input: Float[Array, "D 4H"]
    recurrent: Float[Array, "heads P 4P"]
    bias: Float[Array, " 4H"]


class SLSTMCarry(NamedTuple):
    h: Any  # [*batch, H]
    c: Any  # [*batch, H]
    n: Any  # [*batch, H]
    m: Any  # [*batch, H]


@factory
def slstm(
    features: int,
    *,
    heads: int = 1,
    forget_bias: Any = 1.0,
    input_init: parts.Initialiser = parts.glorot,
    recurrent_init: parts.Initialiser = parts.orthogonal,
    dtype: Any = None,
) -> Cell:
    """The scalar memory of xLSTM: an LSTM whose input gate is exponential, and which is normalised.

        ĩ, f̃, õ, z̃ = xₜ·W + hₜ₋₁·R + b         each its columns; R only within a head
        mₜ = max(log σ(f̃) + mₜ₋₁, ĩ)           i = e^(ĩ − mₜ)     f = e^(log σ(f̃) + mₜ₋₁ − mₜ)
        cₜ = f ∘ cₜ₋₁ + i ∘ tanh(z̃)
        nₜ = f ∘ nₜ₋₁ + i
        hₜ = σ(õ) ∘ cₜ / nₜ                     yₜ = hₜ

    Where nothing has been written, n = 0, mₜ is ĩ. m makes no difference to h.

    Carry: `SLSTMCarry(h, c, n, m)`, all [*batch, H], at first 0.

    Args:
      features: H, heads × P.
      heads: in how many blocks R is diagonal.
      forget_bias: what the bias of f̃ is initialised to. May be traced.
      input_init: of each gate's block of W [D, 4H].
      recurrent_init: of each gate's block [P, P] of each head of R [heads, P, 4P].
      dtype: of the parameters; that of x if None.

    Raises:
      ValueError: if `features` or `heads` is not a positive integer, or the heads do not divide the
        features.

    Reference: Beck et al., xLSTM: extended long short-term memory, 2024, arXiv:2405.04517, eq. 8–17;
    the start as in the authors' code.
    """
    _, size = check_heads("slstm", features, heads, None)
    name = titled("slstm", features, heads=heads)

    def init(key, x):
        d, kind = x.shape[-1], x.dtype
        k, r = jax.random.split(key)
        keys = jax.random.split(r, heads)
        recurrent = [parts.weight(recurrent_init, r, size, size, kind, gates=4) for r in keys]
        return SLSTMParams(
            input=parts.weight(input_init, k, d, features, kind, gates=4),
            recurrent=jnp.stack(recurrent),
            bias=gate_bias(features, jnp.asarray(forget_bias, kind), kind),
        )

    def within_heads(h, recurrent):
        u = jnp.einsum("...hp,hpq->...hq", split(h, heads), recurrent)
        u = jnp.swapaxes(u.reshape(*u.shape[:-1], 4, size), -2, -3)
        return u.reshape(*h.shape[:-1], 4 * features)

    def step(
        p: SLSTMParams, carry: SLSTMCarry, x: Float[Array, "*batch D"]
    ) -> tuple[SLSTMCarry, Float[Array, "*batch H"]]:
        h, c, n, m = carry
        i, f, o, z = jnp.split(x @ p.input + p.bias + within_heads(h, p.recurrent), 4, axis=-1)
        held = jnp.where(n == 0, -jnp.inf, jax.nn.log_sigmoid(f) + m)
        m = jnp.maximum(held, i)
        i, f = jnp.exp(i - m), jnp.exp(held - m)
        c = f * c + i * jnp.tanh(z)
        n = f * n + i
        h = parts.sigmoid(o) * divided(c, n)
        return SLSTMCarry(h, c, n, m), h

    return cell(
        name, init, step, carry=SLSTMCarry(features, features, features, features), dtype=dtype
    )

"""Shapes in signatures, by jaxtyping: documentation everywhere, checked where jaxtyping is installed
and asked to (as one of the tests does). Nothing in the package needs it.
"""

from typing import TYPE_CHECKING, Any

import jax

Array = jax.Array

if TYPE_CHECKING:
    from jaxtyping import Float as Float
else:
    try:
        from jaxtyping import Float as Float
    except ImportError:

        class Float:
            """Stands in for `jaxtyping.Float`: `Float[Array, "B H"]` is then just `Array`."""

            def __class_getitem__(cls, item: Any) -> Any:
                return item[0]

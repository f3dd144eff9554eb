"""jaxrnn: write the recurrence as the textbook prints it; it is read, and run exactly and faster.

    step(params, carry, x) -> (carry, y)            what you write: the equation
              │  trace once, split by what each equation depends on
              ▼
    before │ during │ after                         before: needs xs only      -> all time steps at once
                                                    during: needs the carry    -> inside the loop
                                                    after : needed only by ys  -> all time steps at once
              │  a method decides how `during` meets time
              ▼
    lax · scan · associative · newton

    cell = jaxrnn.cells.lstm(256)
    params = cell.init(key, xs[0])                  xs [T, *batch, D]: time leads
    carry, ys = jaxrnn.run(cell, params, xs)

`jaxrnn.scan` does the same for any step function, in place of `jax.lax.scan`.
"""

from jaxrnn import methods as methods
from jaxrnn.core import Cell as Cell
from jaxrnn.core import Layer as Layer
from jaxrnn.core import run as run
from jaxrnn.engine.scan import scan as scan
from jaxrnn.explaining import explain as explain
from jaxrnn.kit import Features as Features
from jaxrnn.kit import cell as cell
from jaxrnn.origin import factory as factory
from jaxrnn.tuning import tune as tune

from jaxrnn import cells as cells  # isort: skip
from jaxrnn import inside as inside  # isort: skip
from jaxrnn import around as around  # isort: skip

__version__ = "0.1.0"

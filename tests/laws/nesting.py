"""Random nestings of cells and combinators, as hypothesis draws them."""

from hypothesis import strategies as st

from jaxrnn import around, cells, inside

FEATURES = 4  # of x, and of every y, so that anything can be added to anything

PLAIN = [
    cells.elman,
    cells.gru,
    cells.gru_reset_before,
    cells.indrnn,
    cells.layer_norm_gru,
    cells.layer_norm_lstm,
    cells.lstm,
    cells.mgu,
    cells.peephole_lstm,
]
DENSE = [kind for kind in PLAIN if kind is not cells.indrnn]  # the carry meets a weight matrix
NORMALISED = [cells.layer_norm_gru, cells.layer_norm_lstm]  # and cannot be narrowed

ANYWHERE = {
    "zoneout": lambda cell: inside.zoneout(cell, 0.3),
    "leaky": lambda cell: inside.leaky(cell, 2.5),
    "clip_carry": lambda cell: inside.clip_carry(cell, 0.6),
    "learned_carry": inside.learned_carry,
    "residual": inside.residual,
    "narrow": lambda cell: inside.narrow(cell, FEATURES - 1),
}
RECURRENT = {
    "recurrent_dropout": lambda cell: inside.recurrent_dropout(cell, 0.4),
    "recurrent_dropout per step": lambda cell: inside.recurrent_dropout(cell, 0.4, per="step"),
    "drop_connect": lambda cell: inside.drop_connect(cell, 0.4),
}
LAYERS = {
    "dropout": lambda: around.dropout(0.4),
    "dropout per sequence": lambda: around.dropout(0.4, per="sequence"),
    "layer_norm": around.layer_norm,
    "dense": lambda: around.dense(FEATURES),
    "causal_conv": lambda: around.causal_conv(FEATURES, 3),
    "time_distributed": lambda: around.time_distributed(lambda params, x: x * 2),
}


@st.composite
def nested_cells(draw, depth=3):
    """A cell inside of up to `depth` combinators."""
    if draw(st.booleans()):
        kind = draw(st.sampled_from(DENSE))
        combinators = ANYWHERE | RECURRENT
    else:
        kind, combinators = draw(st.sampled_from(PLAIN)), ANYWHERE
    projected = kind is cells.lstm and draw(st.booleans())
    cell = inside.project(kind(FEATURES + 2), FEATURES) if projected else kind(FEATURES)
    names = sorted(set(combinators) - ({"narrow"} if kind in NORMALISED or projected else set()))
    for name in draw(st.lists(st.sampled_from(names), max_size=depth, min_size=1)):
        cell = combinators[name](cell)
    return cell


@st.composite
def nested_layers(draw, depth=3):
    """A layer of layers, `depth` deep."""
    if depth == 0:
        return draw(st.one_of(nested_cells(depth=1), st.sampled_from(sorted(LAYERS)).map(build)))
    kind = draw(st.sampled_from(["stack", "residual", "bidirectional", "inner"]))
    inner = draw(nested_layers(depth=depth - 1))
    if kind == "stack":
        return around.stack(inner, draw(nested_layers(depth=0)))
    if kind == "residual":
        return around.residual(inner)
    if kind == "bidirectional":
        return around.bidirectional(inner, merge="sum")
    return inner


def build(name):
    return LAYERS[name]()

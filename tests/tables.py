"""The only lists of names in the tests."""

from jaxrnn import cells, methods

CELLS = {
    "elman": cells.elman(5),
    "jordan": cells.jordan(5, outputs=2),
    "lstm": cells.lstm(5),
    "peephole_lstm": cells.peephole_lstm(5),
    "gru": cells.gru(5),
    "gru_reset_before": cells.gru_reset_before(5),
    "mgu": cells.mgu(5),
    "indrnn": cells.indrnn(5),
    "layer_norm_lstm": cells.layer_norm_lstm(5),
    "layer_norm_gru": cells.layer_norm_gru(5),
}

METHODS = {
    "lax": methods.lax(),
    "lax-unroll": methods.lax(unroll=3),
    "scan": methods.scan(),
    "scan-chunk": methods.scan(chunk=3),
    "scan-remat": methods.scan(chunk=3, remat=True),
    "scan-no-hoist": methods.scan(hoist=False),
    "scan-no-defer": methods.scan(defer=False, unroll=2),
    "scan-feature-major": methods.scan(feature_major=True),
    "first": methods.first(methods.scan(), methods.lax()),
    "auto": None,
}

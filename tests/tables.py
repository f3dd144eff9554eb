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
    "janet": cells.janet(5),
    "cfn": cells.cfn(5),
    "li_gru": cells.li_gru(5),
    "ctrnn": cells.ctrnn(5),
    "cornn": cells.cornn(5),
    "lmu": cells.lmu(5, order=4, theta=8.0),
    "antisymmetric_rnn": cells.antisymmetric_rnn(5),
    "gated_antisymmetric_rnn": cells.gated_antisymmetric_rnn(5),
    "sru": cells.sru(5),
    "sru_v1": cells.sru_v1(5),
    "qrnn": cells.qrnn(5),
    "qrnn-ifo": cells.qrnn(5, window=3, pooling="ifo"),
    "causal_conv": cells.causal_conv(4),
    "min_gru": cells.min_gru(5),
    "min_lstm": cells.min_lstm(5),
    "hgrn": cells.hgrn(5, lower_bound=0.3),
    "real_hgrn": cells.real_hgrn(5, lower_bound=0.3),
    "lru": cells.lru(5, state=4),
    "s4d": cells.s4d(5, state=4),
    "s5": cells.s5(5, state=8, blocks=2),
    "selective_ssm": cells.selective_ssm(5, state=3, rank=2),
    "rg_lru": cells.rg_lru(6, heads=2),
    "slstm": cells.slstm(6, heads=2),
    "mlstm": cells.mlstm(6, heads=2),
    "linear_attention": cells.linear_attention(6, heads=2),
    "retention": cells.retention(6, heads=2),
    "gated_linear_attention": cells.gated_linear_attention(6, heads=2),
    "delta_net": cells.delta_net(6, heads=2),
    "gated_delta_net": cells.gated_delta_net(6, heads=2),
}
# One of each kind, which keeps all the laws in every run of the tests: a nonlinear one, a linear one
# that is complex, one with a parallel form of its own. Of the others the laws are checked in brief, and
# in full by `pytest -m ""`.
REPRESENTATIVES = ("lstm", "lru", "mlstm")

METHODS = {
    "lax": methods.lax(),
    "lax-unroll": methods.lax(unroll=3),
    "scan": methods.scan(),
    "scan-chunk": methods.scan(chunk=3),
    "scan-remat": methods.scan(chunk=3, remat=True),
    "scan-no-hoist": methods.scan(hoist=False),
    "scan-no-defer": methods.scan(defer=False, unroll=2),
    "scan-feature-major": methods.scan(feature_major=True),
    "newton": methods.newton(tolerance=1e-13),
    "first": methods.first(methods.scan(), methods.lax()),
    "either": methods.either(forward=methods.scan(chunk=3), gradient=methods.scan()),
    "auto": None,
}

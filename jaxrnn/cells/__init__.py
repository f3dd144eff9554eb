"""Cells: inside the loop, the equations. One family a file, each as its paper prints it."""

from jaxrnn.cells.elman import ElmanParams as ElmanParams
from jaxrnn.cells.elman import JordanParams as JordanParams
from jaxrnn.cells.elman import elman as elman
from jaxrnn.cells.elman import jordan as jordan
from jaxrnn.cells.gru import GRUParams as GRUParams
from jaxrnn.cells.gru import GRUResetBeforeParams as GRUResetBeforeParams
from jaxrnn.cells.gru import MGUParams as MGUParams
from jaxrnn.cells.gru import gru as gru
from jaxrnn.cells.gru import gru_reset_before as gru_reset_before
from jaxrnn.cells.gru import mgu as mgu
from jaxrnn.cells.indrnn import IndRNNParams as IndRNNParams
from jaxrnn.cells.indrnn import indrnn as indrnn
from jaxrnn.cells.layer_norm import LayerNormGRUParams as LayerNormGRUParams
from jaxrnn.cells.layer_norm import LayerNormLSTMParams as LayerNormLSTMParams
from jaxrnn.cells.layer_norm import layer_norm_gru as layer_norm_gru
from jaxrnn.cells.layer_norm import layer_norm_lstm as layer_norm_lstm
from jaxrnn.cells.lstm import LSTMCarry as LSTMCarry
from jaxrnn.cells.lstm import LSTMParams as LSTMParams
from jaxrnn.cells.lstm import PeepholeLSTMParams as PeepholeLSTMParams
from jaxrnn.cells.lstm import lstm as lstm
from jaxrnn.cells.lstm import peephole_lstm as peephole_lstm

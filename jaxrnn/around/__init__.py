"""Around the loop: layers, and combinators Layer -> Layer. A cell is taken wherever a layer is."""

from jaxrnn.around.bidirectional import bidirectional as bidirectional
from jaxrnn.around.embed import embed as embed
from jaxrnn.around.embed import tied_embed as tied_embed
from jaxrnn.around.frames import causal_conv as causal_conv
from jaxrnn.around.frames import concat_frames as concat_frames
from jaxrnn.around.frames import downsample as downsample
from jaxrnn.around.stack import residual as residual
from jaxrnn.around.stack import stack as stack
from jaxrnn.around.timewise import dense as dense
from jaxrnn.around.timewise import dropout as dropout
from jaxrnn.around.timewise import layer_norm as layer_norm
from jaxrnn.around.timewise import time_distributed as time_distributed

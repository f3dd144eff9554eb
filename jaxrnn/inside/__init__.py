"""Inside the loop: combinators Cell -> Cell."""

from jaxrnn.inside.carry import clip_carry as clip_carry
from jaxrnn.inside.carry import leaky as leaky
from jaxrnn.inside.carry import learned_carry as learned_carry
from jaxrnn.inside.carry import zoneout as zoneout
from jaxrnn.inside.narrow import narrow as narrow
from jaxrnn.inside.output import project as project
from jaxrnn.inside.output import residual as residual
from jaxrnn.inside.recurrent import drop_connect as drop_connect
from jaxrnn.inside.recurrent import recurrent_dropout as recurrent_dropout

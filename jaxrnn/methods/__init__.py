"""Methods: how a recurrence meets time. A value, passed as `method=`."""

from jaxrnn.methods.associative import associative as associative
from jaxrnn.methods.auto import auto as auto
from jaxrnn.methods.base import Method as Method
from jaxrnn.methods.base import Problem as Problem
from jaxrnn.methods.either import either as either
from jaxrnn.methods.first import first as first
from jaxrnn.methods.lax import lax as lax
from jaxrnn.methods.newton import newton as newton
from jaxrnn.methods.scan import scan as scan

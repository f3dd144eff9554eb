"""Many trainings in one program: a grid of hyperparameters, compiled once.

settings │ what the grid says: one dictionary for each training
   ▼
program  │ make(**setting) traced once, for one setting; updates, validation
   ▼
plan     │ how many at once, on how many devices: from measured rules
   ▼
table    │ a row for each setting, and a picture
"""

from jaxrnn.train.sweep.plan import Plan as Plan
from jaxrnn.train.sweep.program import Trial as Trial
from jaxrnn.train.sweep.run import sweep as sweep
from jaxrnn.train.sweep.table import Table as Table

"""How fast, how much memory, and is it still right: `python -m benchmarks list` says what there is.

cases       what is run: data            programs    what is compiled: forward, gradient
contenders  who runs it: methods         gate        correctness before the clock
clock       interleaved timing           machine     on what, and who else was busy there
suites      a case through all of it, as rows
directions  both directions of time: their cases, and who runs them
report      rows as tables and words     plot        rows as a picture
"""

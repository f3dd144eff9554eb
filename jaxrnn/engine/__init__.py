"""The engine: reads a step, splits it, and runs what is left. It knows nothing of cells.

trace -> rewrite -> split -> loop (defer, layout, timewise) · structure · explain
"""

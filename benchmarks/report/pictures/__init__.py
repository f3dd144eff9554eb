"""Rows as pictures: matplotlib figures, one a suite."""

from benchmarks.report.pictures.heat import draw_choice, draw_peers, draw_ratios
from benchmarks.report.pictures.scaling import draw_scaling
from benchmarks.report.pictures.unroll import draw_unroll

__all__ = ["draw_choice", "draw_peers", "draw_ratios", "draw_scaling", "draw_unroll"]

"""The parts of ``benchmarks.gate_quality``: what is measured, who judges it, and the page that comes of it."""

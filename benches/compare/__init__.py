"""The parts of `benches/speed.py`, by the standard library alone: environments and models, rows, processes, limits, tables."""

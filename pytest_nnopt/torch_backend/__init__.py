"""The only row that imports torch: pairs, compilation, counters, clocks, memory, and tensors as arrays."""

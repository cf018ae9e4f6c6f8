"""The shared history: what every run measured, in a store that many jobs append to at once and nobody rewrites."""

"""Fuzzing of every parser with atheris; the README beside this says how."""

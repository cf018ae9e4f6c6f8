"""Estimates, intervals and decisions on plain numbers; imports neither pytest nor torch."""

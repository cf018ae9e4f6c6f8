"""Data in, text out: terminal, JSON and exports. Nothing here prints."""

"""The HTML report: one self-contained page. Data in, text out; needs the extra ``report``."""

"""A run from collecting its cases to handing over their results."""

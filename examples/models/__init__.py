"""Small versions of real architectures with random weights: what the example tests hand to ``model_pair``."""

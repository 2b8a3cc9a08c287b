"""mail: the pure knowledge of mail. No IO, no clock, no randomness: values in, values out.

Each module names its one subject and the RFC it obeys. Everything above may import it; it imports nothing of ours.
"""

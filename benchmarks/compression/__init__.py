"""What structural compression costs and gains, one file for each command of ``structure``."""

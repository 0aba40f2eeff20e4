"""Random graphs and damaged files: whatever goes in, the outcome is right or refused."""

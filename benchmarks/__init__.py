"""Measurements: what edgec costs, and what comes out of it."""

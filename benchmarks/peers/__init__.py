"""What other tools need for the same work."""

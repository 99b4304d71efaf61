"""marsrl."""

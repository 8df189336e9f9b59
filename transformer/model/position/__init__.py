"""Ways to tell positions apart."""

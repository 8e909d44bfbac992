"""The page on which an agent plays in the browser."""

"""What one looks at in a model and its variables."""

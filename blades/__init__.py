"""Streaming chat completions that stop when told to."""

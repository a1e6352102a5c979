"""Threads, sockets and the official client."""

"""Bytes of an answer to chunks and totals. Pure: no socket, no thread, no clock."""

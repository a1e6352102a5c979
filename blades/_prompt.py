"""Messages and prompts."""

from __future__ import annotations

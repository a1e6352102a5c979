"""Short ways to compile and render a Mustache text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from blades import PromptError
from blades._prompts.mustache import compile_template, render

if TYPE_CHECKING:
    from collections.abc import Mapping

    from blades._prompts.mustache import Template


unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy


def compiled(text: str, partials: Mapping[str, str]) -> tuple[Template, dict[str, Template]]:
    """Compile a text and its partials."""
    others = {name: compile_template(t, f"partial {name}", partials, is_partial=True) for name, t in partials.items()}
    return compile_template(text, "text", partials), others


def outcome(text: str, data: object = None, partials: Mapping[str, str] | None = None) -> tuple[str, list[str]]:
    """Render a text with data as its only scope."""
    template, others = compiled(text, partials or {})
    return render(template, ({} if data is None else data,), others)


def written(text: str, data: object = None, partials: Mapping[str, str] | None = None) -> str:
    """Return the rendered text of a case that has no problem."""
    result, problems = outcome(text, data, partials)
    assert problems == []
    return result


def problem(text: str, data: object = None, partials: Mapping[str, str] | None = None) -> str:
    """Return the only problem of a case."""
    (line,) = outcome(text, data, partials)[1]
    return line


def refusal(text: str, partials: Mapping[str, str] | None = None) -> str:
    """Return why a text is not compiled."""
    with pytest.raises(PromptError) as caught:
        compiled(text, partials or {})
    return str(caught.value)

"""The templates that prompts are built from."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, final

from blades._errors import PromptError
from blades._message import Message, Parts, as_message
from blades._preview import short_repr, type_name
from blades._prompts.context import look_up
from blades._prompts.messages import Prompt, messages_of, prompt_of
from blades._prompts.mustache import Template, compile_template, needed_names, render

_MAX_NAMES: Final = 50  # listed in a message
_SINGLE_BRACES: Final = r"(?<![\w\\}$%{^])\{([A-Za-z_]\w*)\}(?!\})"  # as str.format has it; not ${HOME}, not LaTeX


@final
@dataclass(frozen=True, slots=True, init=False, repr=False)
class PromptTemplate:
    """A prompt with names to fill in, in Mustache: ``{{name}}``. Immutable: each method returns a new template.

    Texts are compiled, and their errors raised, as they are added. The template can then be built many times, from any
    number of threads. Text is never escaped, a missing name is an error, and a template reaches nothing but the keys of
    dicts and the items of lists.

    Args:
        partials: Texts by name, for ``{{>name}}``.

    Raises:
        PromptError: A partial cannot be compiled.
        TypeError: `partials` is not a mapping of texts.
    """

    _partials: dict[str, Template]
    _entries: tuple[Message | _History | _Rendered, ...]

    def __init__(self, *, partials: Mapping[str, str] | None = None) -> None:
        texts = _checked_params(partials, {})
        compiled = {}
        for name, text in texts.items():
            if not isinstance(text, str):
                raise TypeError(f"expected the partial {short_repr(name)} as a str, got {type_name(text)}")
            compiled[name] = compile_template(text, f"partial {short_repr(name)}", texts, is_partial=True)
        object.__setattr__(self, "_partials", compiled)
        object.__setattr__(self, "_entries", ())

    def system(
        self, template: str | Parts, params: Mapping[str, object] | None = None, /, **more: object
    ) -> PromptTemplate:
        """Add a system message.

        Args:
            template: A Mustache text, or a list of content parts whose "text" values are Mustache.
            params: Values by name. `build` overrides them.
            more: The same values as keyword arguments; they override `params`.

        Raises:
            PromptError: The template cannot be compiled, or it has a single-brace ``{name}`` for a value given here.
            TypeError: An argument of another type.

        Warns:
            UserWarning: A text without any tag has a single-brace ``{name}``, which is written as it is. For a text
                that means that, use `message`, which renders nothing.
        """
        return self._with_rendered("system", template, params, more)

    def user(
        self, template: str | Parts, params: Mapping[str, object] | None = None, /, **more: object
    ) -> PromptTemplate:
        """Add a message of the user. Otherwise like `system`."""
        return self._with_rendered("user", template, params, more)

    def assistant(
        self, template: str | Parts, params: Mapping[str, object] | None = None, /, **more: object
    ) -> PromptTemplate:
        """Add a message of the assistant, such as an example of an answer. Otherwise like `system`."""
        return self._with_rendered("assistant", template, params, more)

    def message(self, message: Message | Mapping[str, Any], /) -> PromptTemplate:
        """Add a message without rendering it.

        Raises:
            TypeError: The message is neither a `Message` nor a dict like one.
            ValueError: The dict has no role.
        """
        return self._with(as_message(message))

    def history(self, name: str, /) -> PromptTemplate:
        """Add the messages that `build` gets under a name: a prompt or a list of messages, never rendered.

        None, False and an empty list stand for no messages.

        Raises:
            TypeError: The name is not a str.
        """
        if not isinstance(name, str):
            raise TypeError(f"expected the name of a history as a str, got {type_name(name)}")
        return self._with(_History(f"message {len(self._entries) + 1} (history)", name))

    def build(self, params: Mapping[str, object] | None = None, /, **more: object) -> Prompt:
        """Render the messages. Call from any thread.

        Args:
            params: Values by name. They override those given with a message.
            more: The same values as keyword arguments; they override `params`.

        Raises:
            PromptError: Names are missing, values are of types that the templates cannot use, or a message of the user
                would be empty. One error has all of them.
            TypeError: `params` is not a mapping.
        """
        given = _checked_params(params, more)
        messages: list[Message] = []
        problems: list[str] = []
        for entry in self._entries:
            if isinstance(entry, Message):
                messages.append(entry)
            elif isinstance(entry, _History):
                messages += entry.build(given, problems)
            else:
                messages.append(entry.build(given, self._partials, problems))
        if problems:
            raise PromptError(
                "\n  ".join(["cannot fill in the template (pass None, False or [] to omit a section):", *problems])
            )
        return prompt_of(messages)

    @property
    def variables(self) -> tuple[str, ...]:
        """The names that `build` needs, in order of appearance.

        Names that already have a value are left out. So are names used only inside a section, since the section's value
        may have them.
        """
        names: dict[str, None] = {}
        for entry in self._entries:
            if not isinstance(entry, Message):
                names.update(dict.fromkeys(entry.needed_names(self._partials)))
        return tuple(names)

    def __repr__(self) -> str:
        partials = f"partials=[{', '.join(map(short_repr, self._partials))}]" if self._partials else ""
        calls = (f"message({entry!r})" if isinstance(entry, Message) else entry.call() for entry in self._entries)
        return ".".join([f"PromptTemplate({partials})", *calls])

    def _with_rendered(
        self, role: str, template: str | Parts, params: Mapping[str, object] | None, more: dict[str, object]
    ) -> PromptTemplate:
        where = f"message {len(self._entries) + 1} ({role})"
        source = Message(role, template)
        content = source.content
        if content is None:
            raise TypeError(f"expected the template of a {role} message as a str, got None")
        if isinstance(content, str):
            texts = {0: (content, where)}
        else:
            texts = {
                number: (part["text"], f"{where}, part {number + 1}")
                for number, part in enumerate(content)
                if part.get("type") == "text" and isinstance(part.get("text"), str)
            }
        given = _checked_params(params, more)
        for text, place in texts.values():
            _check_braces(text, place, given)
        templates = {number: compile_template(text, place, self._partials) for number, (text, place) in texts.items()}
        return self._with(_Rendered(where, source, templates, given))

    def _with(self, entry: Message | _History | _Rendered) -> PromptTemplate:
        longer = object.__new__(PromptTemplate)
        object.__setattr__(longer, "_partials", self._partials)
        object.__setattr__(longer, "_entries", (*self._entries, entry))
        return longer


@final
class _History(NamedTuple):
    """The place of messages that `build` gets under a name."""

    where: str
    name: str

    def build(self, given: dict[str, object], problems: list[str]) -> Iterable[Message]:
        value = given.get(self.name, self)
        if value is self:
            problems += [
                f"{self.where}: {short_repr(self.name)} is missing: no such name was given",
                _names_given(self.where, given),
            ]
        elif isinstance(value, str | Mapping | Message):
            problems.append(f"{self.where}: expected a list of messages, got {type_name(value)}")
        elif value is not None and value is not False:
            try:
                return messages_of(value)
            except (TypeError, ValueError) as error:
                problems.append(f"{self.where}: {error}")
        return ()

    def needed_names(self, _partials: object) -> Iterable[str]:
        return (self.name,)

    def call(self) -> str:
        return f"history({short_repr(self.name)})"


@final
class _Rendered(NamedTuple):
    """A message whose text is a template, or some of whose parts are: each by its number."""

    where: str
    source: Message
    templates: dict[int, Template]
    params: dict[str, object]

    def build(self, given: dict[str, object], partials: dict[str, Template], problems: list[str]) -> Message:
        params = {**self.params, **given}
        texts: dict[int, str] = {}
        wrong: list[str] = []
        for number, template in self.templates.items():
            texts[number], wrong = render(template, (params,), partials)
            if wrong:
                problems += [*wrong, _names_given(template.where, params)]
        content = self.source.content
        if not isinstance(content, list):
            if self.source.role == "user" and not texts[0] and not wrong:
                problems.append(
                    f"{self.where}: expected a text, got an empty one: servers refuse that; leave the message out, "
                    'or add it by .message(Message("user", ""))'
                )
            return Message(self.source.role, texts[0])
        parts = [{**part, "text": texts[n]} if n in texts else part for n, part in enumerate(content)]
        return Message(self.source.role, parts)

    def needed_names(self, partials: dict[str, Template]) -> Iterable[str]:
        needed = (needed_names(template, partials) for template in self.templates.values())
        return (name for names in needed for name in names if name not in self.params)

    def call(self) -> str:
        params = "".join(f", {name}=..." for name in self.params)
        return f"{self.source.role}({short_repr(self.source.content)}{params})"


def _checked_params(params: Mapping[str, object] | None, more: dict[str, object]) -> dict[str, object]:
    """Return a dict of our own. Names are looked up one by one, so that a `ChainMap` creates no defaults."""
    if params is None:
        return more
    if type(params) is dict:
        return {**params, **more}
    if not isinstance(params, Mapping):
        raise TypeError(f"expected a dict of values by name, got {type_name(params)}")
    return {name: look_up(params, name) for name in params} | more


def _names_given(where: str, params: dict[str, object]) -> str:
    """Return a line that lists the names given, never values."""
    names = [short_repr(name) for name in params]
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return f"{where} was given {', '.join(names[:_MAX_NAMES]) or 'no names'}{more}"


def _check_braces(text: str, where: str, given: dict[str, object]) -> None:
    """Refuse a single-brace ``{name}`` that was meant to be filled in, and warn of one that may have been."""
    found = None if "{{" in text else re.search(_SINGLE_BRACES, text)
    if found is None:
        return
    line = text.count("\n", 0, found.start()) + 1
    fault = f"{where}, line {line}: expected two braces, {{{{{found[1]}}}}}, got one: {found[0]}"
    if found[1] in given:
        raise PromptError(fault)
    # The stack: this function, _with_rendered, the method, its caller.
    warnings.warn(f"{fault} is written as it is (if that is meant, add the text by .message)", stacklevel=4)

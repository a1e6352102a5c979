r"""What of a model's text may reach a notebook's page: pure.

A notebook shows Markdown with the HTML in it, and JupyterLab runs the scripts in that HTML if the cell was run just
now, as it always was here. Anybody whose text a model has read can make it write a script, and a script in a notebook
can run code. So no tag of the model's gets through but a few without attributes, no link but to the web or a mail
address, and no image, since loading one tells its server what the model has put into the address.

Front ends differ in how they parse Markdown, so what must not happen is kept from happening wherever it stands. Only
the means depends on what it seems to stand in: in text it becomes an entity; in a formula (``$a<b$``) a space goes
after the sign; code in which it occurs is written as HTML, where entities show what was meant. A wrong guess looks odd
and does no harm.
"""

from __future__ import annotations

import re
import string
from typing import Final

# A tag that could do something; a link to neither the web nor mail, so perhaps a script, or one that hides its scheme
# behind an entity or a control character; an image.
_DANGER: Final = (
    r"<(?=[a-z/!?])(?!/?(?:br|sub|sup|kbd) ?/?>)"
    r"|\](?=[(:]\s*+(?:<|(?!https?:|mailto:)[^/?#)\s]{0,20}(?:[:&]\S|[\x00-\x1f])))"
    r"|!(?=\[)"
)
_FENCE: Final = (
    r"^(?P<lead>(?:[ \t>]|[-*+][ \t]|\d{1,9}[.)][ \t])*)(?P<mark>`{3,}(?=[^`\n]*$)|~{3,})[^\n]*"
    r"(?P<body>(?:\n(?![ \t>]*(?P=mark)[`~]*[ \t]*$)[^\n]*)*)"
    r"(?P<close>\n[ \t>]*(?P=mark)[`~]*[ \t]*$)?"
)
# The limits keep the search linear: a sign that nothing answers is not looked for in the whole text each time.
_SPAN: Final = r"(?<!`)(?P<ticks>`+)(?!`)(?P<code>(?:(?!\n\s*\n).){1,1000}?)(?<!`)(?P=ticks)(?!`)"
_FORMULA: Final = (
    r"(?P<formula>\$\$(?:(?!\n\s*\n)[^$]){1,4000}\$\$|\$(?:(?!\n\s*\n)[^$]){1,1000}\$"
    r"|\\begin\{(?P<name>\w+\*?)\}(?:(?!\n\s*\n).){1,1000}?\\end\{(?P=name)\})"
)
_ADDRESS: Final = r"<(?P<address>https?://[^\s<>()\[\]`*\\]+)>"
_FLAGS: Final = re.IGNORECASE | re.MULTILINE | re.DOTALL
_danger = re.compile(_DANGER, _FLAGS)
_fence = re.compile(_FENCE, _FLAGS)
_token = re.compile(rf"{_FENCE}|{_SPAN}|{_FORMULA}|{_ADDRESS}|(?P<escapes>(?:\\\\)*)\\?(?:{_DANGER})", _FLAGS)

# With these, a text is one line that means nothing but itself, in HTML and in Markdown.
_ENTITIES: Final = {code: f"&#{code};" for code in (10, 13, *range(33, 127))}
for _harmless in map(ord, ",.;'\"()-=/" + string.ascii_letters + string.digits):
    del _ENTITIES[_harmless]


def literal(text: str) -> str:
    """Return a text as HTML that shows it as it is; it may stand anywhere in Markdown."""
    return text.translate(_ENTITIES)


def harmless(text: str) -> str:
    """Return Markdown that shows what the model's does, and does nothing."""
    return _token.sub(_replace, text) if _danger.search(text) else text


def closed(text: str) -> str:
    """Return Markdown after which something else may be said: a block of code that was cut short is ended."""
    opened = [fence for fence in _fence.finditer(text) if not fence["close"]]
    if not opened:
        return text
    last = opened[-1]
    return "\n".join((text, re.sub("[^>]", " ", last["lead"]) + last["mark"]))


def folded(reasoning: str) -> str:
    """Return the reasoning as Markdown that shows it when asked to."""
    summary = f"Reasoning ({len(reasoning):,} characters)"
    thoughts = literal(reasoning.strip()).replace("&#10;", "<br>")
    return f"<details><summary>{summary}</summary><blockquote>{thoughts}</blockquote></details>\n\n"


def _replace(token: re.Match[str]) -> str:
    found = token[0]
    if token["escapes"] is not None:
        return f"{token['escapes']}&#{ord(found[-1])};"
    if token["address"]:
        return f"[{token['address']}]({token['address']})"
    if not _danger.search(found):
        return found
    if token["formula"]:
        return _danger.sub(r"\g<0> ", found)
    if token["code"]:
        return f"<code>{literal(token['code'])}</code>"
    lead = token["lead"]
    indent = re.compile(rf"^[ \t>]{{0,{len(lead)}}}", re.MULTILINE)
    return f"{lead}<pre><code>{literal(indent.sub('', token['body'][1:]))}</code></pre>"

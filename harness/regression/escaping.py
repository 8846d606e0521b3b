"""Names of anybody's choosing, made harmless where a check is told: XML, Markdown, commands.

A variant's name may come from a table that a stranger wrote. Pure functions of text.
"""

from __future__ import annotations

import re
from xml.sax.saxutils import escape, quoteattr

# All that XML 1.0 allows are tab, line feed, carriage return and these (section 2.2, Char).
_NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
_MARKUP = re.compile(r"([\\`*_{}\[\]()#+!|~$:@-])")
_REPLACEMENT = "\ufffd"


def one_line(text: str) -> str:
    """Text on one line without control characters."""
    return _CONTROL.sub(" ", text).strip()


def log_line(text: str) -> str:
    """What a terminal or a build log may show: one line that no runner takes for a command.

    GitHub's runner obeys ``::name::`` at the start of a line, and a terminal's line may break
    anywhere; it obeys ``##[name]`` even in the middle of one.
    """
    return one_line(text).replace("::", ": :").replace("##[", "## [")


def xml_text(text: str) -> str:
    """Text between tags; what XML 1.0 forbids even as a reference becomes U+FFFD."""
    return escape(_NOT_IN_XML.sub(_REPLACEMENT, text))


def xml_attribute(text: str) -> str:
    """A quoted attribute value; line breaks survive as references."""
    return quoteattr(_NOT_IN_XML.sub(_REPLACEMENT, text))


def markdown(text: str) -> str:
    """Text that Markdown (CommonMark, GitHub's tables) shows as it is, in one line and cell."""
    line = one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKUP.sub(r"\\\1", line)


def command_data(text: str) -> str:
    """The message of a workflow command, escaped as GitHub's runner unescapes it."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def command_property(text: str) -> str:
    """A property of a workflow command: the separators are escaped as well."""
    return command_data(text).replace(":", "%3A").replace(",", "%2C")

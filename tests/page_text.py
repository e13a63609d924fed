"""What a reader sees of a page."""

import html
import re


def shown(markup: str) -> str:
    """The text of a piece of the page, in one line, without the marks of direction and the spaces that do not break."""
    spaced = re.sub(r"<(td|th|small)\b", r" <\1", markup)
    text = html.unescape(re.sub(r"<[^>]+>", "", spaced)).replace("\u00a0", " ")
    return re.sub(r"\s+", " ", re.sub("[\u2066-\u2069]", "", text)).strip()

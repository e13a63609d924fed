"""What tests ask of a page that is open in a browser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Open = Callable[..., Any]
"""Opens a page, by default 1280 pixels wide; `color_scheme` and other options are those of a browser's context."""

FAULTY_LABELS = """() => {
    const faults = [];
    for (const svg of document.querySelectorAll("figure svg")) {
        const frame = svg.getBoundingClientRect();
        const labels = [...svg.querySelectorAll("text")].map(text => [text.textContent, text.getBoundingClientRect()]);
        for (const [i, [text, box]] of labels.entries()) {
            if (box.left < frame.left - 1 || box.right > frame.right + 1) faults.push(`${text} is cut`);
            if (box.top < frame.top - 1 || box.bottom > frame.bottom + 1) faults.push(`${text} is cut`);
            for (const [other, its] of labels.slice(i + 1)) {
                const width = Math.min(box.right, its.right) - Math.max(box.left, its.left);
                const height = Math.min(box.bottom, its.bottom) - Math.max(box.top, its.top);
                // Boxes of lines are taller than their letters, and may touch.
                const over = width > 1.5 && height > 0.35 * Math.min(box.height, its.height);
                if (over) faults.push(`${text} is on ${other}`);
            }
        }
    }
    return faults;
}"""
"""A script that returns what is wrong with the labels of the drawings: cut off, or one on another."""


def colours(page: Any) -> tuple[str, str, str]:
    """Of the ground, the text, and the text in a drawing."""
    return tuple(
        page.evaluate("""() => [
        getComputedStyle(document.body).backgroundColor,
        getComputedStyle(document.body).color,
        getComputedStyle(document.querySelector("figure svg text")).fill,
    ]""")
    )


def serious_faults(page: Any) -> list[tuple[str, str]]:
    """What axe calls serious or critical: the rule, and the first element that breaks it."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    serious = [fault for fault in found if fault["impact"] in ("serious", "critical")]
    return [(fault["id"], fault["nodes"][0]["html"][:120]) for fault in serious]

"""Charts as SVG, drawn on the server by pygal; colours, letters and both themes come from our style sheet.

A chart only shows what the table beneath it says exactly, so its numbers may be rounded. What pygal adds for a page
of its own (styles, scripts, ids, tooltips) is taken out: the pages' policy forbids all of it within a page.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final
from xml.etree.ElementTree import Element

import pygal
from markupsafe import Markup
from pygal.style import Style

BARS_MAX: Final = 20
NAMED_MAX: Final = 8  # along an axis
COLUMNS_MIN: Final = 8  # room is left for so many, so that few are not wide
POINTS_MAX: Final = 400
WIDTH: Final = 760
_DROPPED: Final = frozenset({"defs", "title", "desc"})
_PREFIXES: Final = ((10**24, "Y"), (10**21, "Z"), (10**18, "E"), (10**15, "P"), (10**12, "T"), (10**9, "G"),
                    (10**6, "M"), (10**3, "k"))  # fmt: skip
_LETTERS: Final = Style(
    label_font_size=12, major_label_font_size=12, legend_font_size=12
)  # as in our style sheet
_NO_XML: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
Amount = int | Decimal


def rounded(value: Any) -> str:
    """A number in few characters, for an axis: 1500000 → 1.5M."""
    number = Decimal(str(value))
    for size, letter in _PREFIXES:
        if abs(number) >= size:
            return f"{_plain(number / size)}{letter}"
    return _plain(number)


def _plain(number: Decimal) -> str:
    text = f"{number:.2f}" if abs(number) >= 1 or number == 0 else f"{number:.2g}"
    return text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text


def columns(names: Sequence[str], series: Mapping[str, Sequence[Amount]], label: str) -> Markup:
    """Stacked columns over a row of names, such as days."""
    chart = _chart(pygal.StackedBar, 300)
    spare = max(0, COLUMNS_MIN - len(names))
    chart.x_labels = [*names, *[""] * spare]
    chart.show_minor_x_labels = False
    chart.x_labels_major = _some(names)
    return _drawn(chart, series, label)


def bars(names: Sequence[str], series: Mapping[str, Sequence[Amount]], label: str) -> Markup:
    """Stacked bars, the first on top; of more than BARS_MAX the first ones."""
    some = [_short(name) for name in names[:BARS_MAX]]
    chart = _chart(pygal.HorizontalStackedBar, 96 + 26 * len(some))
    chart.x_labels = some[::-1]
    return _drawn(chart, {name: values[:BARS_MAX][::-1] for name, values in series.items()}, label)


def steps(names: Sequence[str], series: Mapping[str, Sequence[Amount]], label: str) -> Markup:
    """Lines over a row of names, such as days; of many points every n-th and the last."""
    stride = -(-len(names) // POINTS_MAX)
    kept = sorted({*range(0, len(names), stride), len(names) - 1}) if names else []
    chart = _chart(pygal.Line, 280, show_dots=len(kept) <= 60, dots_size=3, min_scale=2)
    chart.x_labels = [names[place] for place in kept]
    chart.show_minor_x_labels = False
    chart.x_labels_major = _some(chart.x_labels)
    chart.y_labels = _ticks(max((value for values in series.values() for value in values), default=0))
    return _drawn(chart, {name: [values[place] for place in kept] for name, values in series.items()}, label)


def _some(names: Sequence[str]) -> list[str]:
    """Every n-th name, so that they do not run into each other."""
    return list(names[:: -(-len(names) // NAMED_MAX) or 1])


def _ticks(most: Amount) -> list[int]:
    """Whole numbers from 0 to at least `most`, six at the most."""
    step = max(1, -(-int(most) // 5))
    return list(range(0, max(int(most), 1) + step, step))


def _chart(kind: type[Any], height: int, **more: Any) -> Any:
    several = {"show_legend": True, "legend_at_bottom": True, "legend_box_size": 14}
    return kind(
        js=[], css=[], width=WIDTH, height=height, no_prefix=True, disable_xml_declaration=True, margin=8, zero=0,
        max_scale=6, value_formatter=rounded, include_x_axis=True, style=_LETTERS, **several, **more,
    )  # fmt: skip


def _drawn(chart: Any, series: Mapping[str, Sequence[Amount]], label: str) -> Markup:
    """The SVG, which says its label to those who do not see it."""
    for name, values in series.items():
        chart.add(name, [float(value) for value in values])

    def bare(root: Element) -> Element:
        _strip(root)
        root.set("role", "img")
        root.set("aria-label", _text(label))
        return root

    chart.add_xml_filter(bare)
    return Markup(chart.render(is_unicode=True))  # pygal escapes every text of its tree


def _strip(node: Element) -> None:
    """Take out what belongs to a page of its own."""
    node.text = node.text and _text(node.text)
    for child in list(node):
        named = child.tag.rpartition("}")[2] if isinstance(child.tag, str) else ""
        if not named or named in _DROPPED or "tooltip" in child.get("class", "").split():
            node.remove(child)
        else:
            _strip(child)
    for attribute in ("id", "style"):
        node.attrib.pop(attribute, None)


def _text(text: str) -> str:
    """Without the characters that XML has no place for."""
    return _NO_XML.sub("\N{REPLACEMENT CHARACTER}", text)


def _short(name: str) -> str:
    return name if len(name) <= 18 else f"{name[:9]}…{name[-6:]}"

"""Saves Matplotlib figures as SVG, PDF or PNG, reproducibly and with text as text."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MM_PER_INCH, PT_PER_INCH = 25.4, 72.0


def svg_of(page: Figure, salt: str) -> str:
    """Returns a figure as SVG whose text can be selected and edited.

    Args:
      page: the figure.
      salt: text by which the ids differ from those of other figures on the same page.
    """
    return _saved(page, "svg", {"svg.hashsalt": salt}, {"Date": None}).decode()


def pdf_of(page: Figure) -> bytes:
    """Returns a figure as PDF with its fonts embedded as TrueType (Type 42).

    Journals refuse Type 3 fonts, Matplotlib's default.
    """
    return _saved(page, "pdf", {}, {"CreationDate": None})


def png_of(page: Figure, dpi: float) -> bytes:
    """Returns a figure as PNG that records its resolution in pixels per inch."""
    return _saved(page, "png", {}, {"Software": None}, dpi=dpi)


def _saved(
    page: Figure,
    form: str,
    settings: dict[str, Any],
    metadata: dict[str, None],
    **options: Any,
) -> bytes:
    import matplotlib

    drawn = io.BytesIO()
    # Matplotlib checks the names itself.
    rc: Any = {"svg.fonttype": "none", "pdf.fonttype": 42} | settings
    with matplotlib.rc_context(rc):
        page.savefig(drawn, format=form, metadata=metadata, **options)
    return drawn.getvalue()

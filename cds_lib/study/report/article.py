"""RESULTS/article.pdf: the article that people wrote in article.typ, with numbers and figures of the results folder."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

from cds_lib.files import replacing
from cds_lib.study.errors import RunError


def write_article(results: Path) -> Path:
    """Typeset it; the same results give the same bytes.

    Raises:
        RunError: a row or figure that it names is not there, or a difference does not lie where it says.
    """
    import typst  # needed by this file alone

    source = Path(__file__).with_suffix(".typ").read_bytes()
    fonts = Path(mpl.get_data_path()) / "fonts" / "ttf"  # of the figures
    try:
        written = typst.compile(source, root=results, font_paths=[fonts])
    except typst.TypstError as error:
        raise RunError(f"The article does not fit {results}: {' '.join(str(error).split())}.") from error
    with replacing(results / "article.pdf") as file:
        file.write(written)
    return results / "article.pdf"

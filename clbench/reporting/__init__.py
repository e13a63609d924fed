"""The comparison report: stored runs in, one self-contained page with its figures and tables out.

    publication    reads runs, writes the report's folder         (what `clbench report` calls)
    page           fills the page's template
    sections       what the page says of one comparison: sentences, table, figures
    findings       the sentences, with numbers and intervals
    figures        which panels a figure has, and their numbers
    drawing        how each panel is drawn
    labels         names in a drawing, shortened and kept apart
    rendering      a panel as SVG for the page; a figure as SVG, PNG and PDF files
    appearance     the colour, marker and dash of a strategy
    exports        the table as CSV, Markdown and LaTeX
    provenance     methods, commands and environments of the runs

It reads results and nothing else: it trains nothing, and imports neither torch nor Avalanche.
"""

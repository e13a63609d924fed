"""Builds self-contained HTML pages: the report that compares stored runs, and that of a trained or extended network.

    publication    reads runs, writes the report's folder         (called by `clbench report`)
    page           the content of the page, for its template
    document       fills a template as one HTML file that loads nothing from elsewhere
    sections       the page's section on one comparison: sentences, table, figures
    findings       the sentences, with numbers and intervals
    figures        the panels of each figure, and their numbers
    drawing        how each panel is drawn
    labels         names in a drawing, shortened and kept from overlapping
    rendering      a panel as SVG for the page; a figure as SVG, PNG and PDF files
    appearance     the colour, marker and dash of a strategy
    exports        the table as CSV, Markdown and LaTeX
    provenance     methods, commands and environments of the runs

    extension_page      the page of a network that was trained or extended, from its record
    extension_findings  its sentences and lists
    extension_figures   its figures

The package only reads results: it trains nothing, and imports neither torch nor Avalanche.
"""

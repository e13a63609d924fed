"""Self-contained pages: the report that compares stored runs, with its figures and tables, and that of one network.

    publication    reads runs, writes the report's folder         (what `clbench report` calls)
    page           what the page has, for its template
    document       a template as one HTML file that asks nothing of any network
    sections       what the page says of one comparison: sentences, table, figures
    findings       the sentences, with numbers and intervals
    figures        which panels a figure has, and their numbers
    drawing        how each panel is drawn
    labels         names in a drawing, shortened and kept apart
    rendering      a panel as SVG for the page; a figure as SVG, PNG and PDF files
    appearance     the colour, marker and dash of a strategy
    exports        the table as CSV, Markdown and LaTeX
    provenance     methods, commands and environments of the runs

    extension_page      the page of a network that was trained or extended, from its record
    extension_findings  its sentences and lists
    extension_figures   its figures

It reads results and nothing else: it trains nothing, and imports neither torch nor Avalanche.
"""

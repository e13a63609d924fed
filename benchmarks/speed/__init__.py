"""clbench and its peers doing the same work, compared on one machine."""

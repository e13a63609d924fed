"""Published numbers and what clbench measures in their place: `clbench reproduce`.

targets.csv    every published cell with its protocol, source and spread
targets        reads them, and finds the stored runs that answer each
prescribed     whether a run has the stream that its scenario prescribes
campaign       the runs that a protocol needs
"""

"""Published numbers and clbench's own measurements of them, for `clbench reproduce`.

targets.csv    every published cell with its protocol, source and spread
targets        reads them, and finds the stored runs that measure each
prescribed     tells whether a run has the stream that its scenario prescribes
campaign       plans the runs that a protocol needs
"""

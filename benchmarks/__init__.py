"""What clbench costs, measured: `python -m benchmarks.speed`, `.growth`, `.device` and `.peers`, from the checkout.

`.reference` makes what readers see of the reference results.
"""

"""Measurements of clbench's costs: `python -m benchmarks.speed`, `.growth`, `.device` and `.peers`, from the checkout.

`.reference` generates the tables, page and picture that present the reference results.
"""

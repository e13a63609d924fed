"""What clbench costs, measured: `python -m benchmarks.speed`, `.growth`, `.device` and `.peers`, from the checkout."""

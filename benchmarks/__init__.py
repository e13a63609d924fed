"""What clbench costs, measured: `python -m benchmarks.speed`, `.growth` and `.device`, from the checkout."""

"""The only place that imports Avalanche."""

"""Avalanche's strategies, plug-ins and benchmarks in clbench; nothing outside this package imports Avalanche."""

"""The contracts that plug-in files are written against, with their configuration and the types that they use."""

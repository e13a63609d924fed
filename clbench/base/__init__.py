"""What a plug-in file is written against: the contracts, their configuration and their vocabulary."""

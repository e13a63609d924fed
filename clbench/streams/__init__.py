"""From a dataset to a stream of experiences: the split, the class order, and the data of each."""

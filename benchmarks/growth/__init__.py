"""How time and memory grow with the length of a stream, the images and the seeds."""

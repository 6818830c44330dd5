"""Variable-rate Cheng2020: Cui's gain units, a checkerboard context; also on the hyperpriors."""

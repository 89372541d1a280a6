"""What a cut took away, put back in closed form, without training and without changing the graph."""

"""From predicted figures and a budget to a number of layers: solving, then advice."""

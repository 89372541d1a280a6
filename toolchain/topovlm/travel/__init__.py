"""What travels to a board: Python >= 3.8, standard library, numpy. `agent` and
`limits` as text, the rest as a package.

`steps` and `ort_graphs` are the runtime of this machine too. Nothing here may import what does not travel.
"""

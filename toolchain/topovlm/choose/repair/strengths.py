"""Numbers that repairs are fitted with. Torch-free: what a repair takes is counted before torch is there."""

# Lambda over the mean diagonal of a cut's equations.
LAMBDAS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
# Times the lambda of least error: a stream that is nearer can still be worse to read, where few samples fit;
# with many it makes no difference (docs/accuracy.md).
CAUTION = 10.0
# Of what the down-projection of one layer reads: kept, the layer need not run again when its repair is known.
PASSED_BYTES = 256 << 20

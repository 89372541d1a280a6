"""A third benchmark model: Idefics3 (SmolVLM's type), small, trained from scratch without skipping layers.

The reference model was grown by inserting identities and trained with stochastic depth, so it bears the loss
of layers better than models do. This one answers the same questions with a Llama decoder of 12 layers that
were all there, in every step: `python -m benchmarks.plain train`. Its tower starts as the reference's.
"""

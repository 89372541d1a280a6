"""SmolLM2-LVLM: a published decoder that sees. The second benchmark model, with its questions.

SmolLM2-135M-Instruct as a package ships it, with a change of rank 16 in three products of each layer, behind
a small SigLIP tower and a projector that were trained here (`benchmarks/smol/trained`).
`python -m benchmarks.smol` builds, asks and trains it.

What is asked: the families of the reference benchmark (`topovlm.reference`), in several wordings, and
pictures of real things: national flags, emoji, charts of real tables, words in real fonts. No flag, emoji,
table or word is in two splits.
"""

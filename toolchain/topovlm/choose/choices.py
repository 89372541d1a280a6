"""What --cloud, --token and --k may be, for the command line: nothing is imported."""

# The stream as it is, or as the next norm sees it, without the norm's gain.
CLOUDS = ("residual", "normalised")
# One vector per sample: its last prompt token's, or a mean over tokens.
KINDS = ("last", "text-mean", "image-mean")
MULTI = "multi"
TOKENS = (*KINDS, MULTI)
# How the number of neighbours is found: see `loops`.
AUTO, PLATEAU = "auto", "plateau"
K_RULES = (AUTO, PLATEAU)

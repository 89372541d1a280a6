"""Ten public benchmarks: each a record (`table`), read where it lies (`places`, `rows`), never downloaded.

row -> `items.item_of` -> Item -> `prompts` -> text for the model -> `rules` or `strict` -> Reading
"""

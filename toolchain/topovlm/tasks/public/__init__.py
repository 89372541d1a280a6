"""Ten public benchmarks: each a record of data (`table`), read where it lies (`places`, `rows`), never downloaded.

    row -> `items.item_of` -> Item -> `prompts` -> text for the model -> `rules` or `strict` -> Reading
"""

"""What `benchmarks.large` runs: a checkpoint of a published size, stages alone in a process, their floors."""

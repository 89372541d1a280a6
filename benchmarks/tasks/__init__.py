"""The ten public benchmarks of `topovlm.tasks.public`, against lmms-eval and on files of their forms."""

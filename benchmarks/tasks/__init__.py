"""The ten public benchmarks of `topovlm.tasks.public`, held against lmms-eval and tried on files of their forms."""

"""Facts of a machine, this one or another: cores, memory, GPU, Jetson, power, throttling; one parser each."""

"""What is traced for pictures: torch modules whose inputs are what `runtime.pictures` makes."""

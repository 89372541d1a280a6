"""What is known of each model family, decoder and vision tower: data files, and their readers."""

"""Checkpoint folders: their files, surgery tensor by tensor, the one loader of torch models, verification."""

"""Conditions from the field and attacks, one file each, through the command as users run it."""

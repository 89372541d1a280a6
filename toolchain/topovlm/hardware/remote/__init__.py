"""Boards over ssh: what travels there (`board_agent`, `board_timer`) and what talks to it from here."""

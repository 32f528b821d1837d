"""Generated data: text normalization, Morse code, joined recordings."""

"""The commands, the only part of the library that prints."""

"""What can be asked of a server, one file a noun; see `corral._exchange`."""

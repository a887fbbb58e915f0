"""The commands of `lcr2s`, one file each: they parse and print, and the library does the work."""

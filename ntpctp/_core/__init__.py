"""The base of every other package: errors, files, locks, options. It imports no other package."""

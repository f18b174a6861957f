"""What every other package rests on: errors, files, locks, options. It imports none of them."""

"""What measures compute: imported when a measurement starts, since it needs torch."""

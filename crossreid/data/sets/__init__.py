"""The readers of data sets, one file each; ``crossreid.data.SOURCES`` gathers them."""

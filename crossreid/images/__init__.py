"""Images as arrays: decoding, listing, resizing, thumbnails. No torch is needed here."""

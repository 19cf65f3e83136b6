"""Galleries that can be searched: in memory, in a folder (LanceDB), or on a server (Milvus).

``Gallery`` checks what comes in and goes out; ``store.Store`` is the protocol behind it, which ``memory``, ``lance``
and ``milvus`` answer, one file each.
"""

from crossreid.gallery.entries import Entry, Filter, Hit, Info
from crossreid.gallery.gallery import Gallery

__all__ = ["Entry", "Filter", "Gallery", "Hit", "Info"]

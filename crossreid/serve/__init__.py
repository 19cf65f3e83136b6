"""The search page and its HTTP interface.

    app       the addresses and what they answer
    guard     who may ask: host name, origin, token; and the headers of every answer
    upload    forms read into memory, never to disk
    searcher  one thread that embeds and searches, in batches, with a bounded line before it
    images  files under one folder, and small copies of them
    describe  the description of the interface as a page
    server    a listening socket, and an orderly end
    page/     the page itself: HTML, CSS and JavaScript as they are sent

``create_app`` makes the application; ``server.run`` answers with it until it is stopped.
"""

from crossreid.serve.app import create_app

__all__ = ["create_app"]

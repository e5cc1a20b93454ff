"""Who may ask: keys, the admin token, other origins, host names, TLS. All of it is off until it is configured.

The server has no cookies and no sessions: a browser never adds to a request what a page could not add itself,
so that there is nothing for cross-site request forgery to use.
"""

"""The gateway: one policy, live. `app.create(...)` makes the WSGI callable; everything below it knows no WSGI."""

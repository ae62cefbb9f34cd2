"""A WSGI program that reads its token from the file that `tkm exec --file` keeps fresh:

    tkm exec --file api -- gunicorn --bind 127.0.0.1:8000 app:application
"""
import hashlib
import os


def token():
    with open(os.environ["TKM_TOKEN_FILE"]) as file:
        return file.read().strip()


def application(environ, start_response):
    # Here a program would call its API with the token.
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [hashlib.sha256(token().encode()).hexdigest()[:16].encode()]

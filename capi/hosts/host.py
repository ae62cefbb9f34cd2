"""Python shares the token through ctypes: the library's threads call back under the GIL. Usage: host.py LIBRARY REDIS ISSUER [TOKEN]"""

import ctypes
import json
import sys
import threading
import urllib.request
from ctypes import POINTER, byref, c_char_p, c_int32, c_size_t, c_uint64, c_void_p

library, redis, issuer = sys.argv[1:4]
name = sys.argv[4] if len(sys.argv) > 4 else "host-py"
tkm = ctypes.CDLL(library)


def declare(function, result, *arguments):
    getattr(tkm, function).restype = result
    getattr(tkm, function).argtypes = arguments


FETCH = ctypes.CFUNCTYPE(None, c_void_p, c_void_p, c_void_p)
DESTROY = ctypes.CFUNCTYPE(None, c_void_p)
declare("tkm_store_redis", c_int32, c_char_p, c_void_p, POINTER(c_void_p), POINTER(c_void_p))
declare("tkm_store_free", None, c_void_p)
declare("tkm_options_new", c_void_p, c_char_p)
declare("tkm_options_store", c_int32, c_void_p, c_void_p)
declare("tkm_options_source", c_int32, c_void_p, FETCH, c_void_p, DESTROY)
declare("tkm_manager_new", c_int32, c_void_p, POINTER(c_void_p), POINTER(c_void_p))
declare("tkm_manager_get", c_int32, c_void_p, POINTER(c_void_p), POINTER(c_void_p))
declare("tkm_manager_free", c_int32, c_void_p, c_uint64)
declare("tkm_token_secret", c_void_p, c_void_p, POINTER(c_size_t))
declare("tkm_token_generation", c_uint64, c_void_p)
declare("tkm_token_free", None, c_void_p)
declare("tkm_error_message", c_char_p, c_void_p)
declare("tkm_error_free", None, c_void_p)
declare("tkm_attempt_remaining_ms", c_uint64, c_void_p)
declare("tkm_reply_token", c_int32, c_void_p, c_char_p, c_size_t, c_uint64)
declare("tkm_reply_unknown_outcome", c_int32, c_void_p, c_char_p)

callers = []
destroyed = []


@FETCH
def fetch(user_data, attempt, reply):
    callers.append((user_data, threading.get_ident()))
    try:
        limit = tkm.tkm_attempt_remaining_ms(attempt) / 1000
        with urllib.request.urlopen(issuer + "/token", data=b"", timeout=limit) as answer:
            granted = json.load(answer)
        secret = granted["access_token"].encode()
        tkm.tkm_reply_token(reply, secret, len(secret), granted["expires_in_ms"])
    except Exception as cause:
        tkm.tkm_reply_unknown_outcome(reply, str(cause).encode())


@DESTROY
def destroy(user_data):
    destroyed.append(user_data)


def check(code, error):
    if code != 0:
        message = tkm.tkm_error_message(error).decode()
        tkm.tkm_error_free(error)
        raise SystemExit(f"code {code}: {message}")


error, store, manager = c_void_p(), c_void_p(), c_void_p()
check(tkm.tkm_store_redis(redis.encode(), None, byref(store), byref(error)), error)
options = tkm.tkm_options_new(name.encode())
assert tkm.tkm_options_store(options, store) == 0
tkm.tkm_store_free(store)
assert tkm.tkm_options_source(options, fetch, 4711, destroy) == 0
check(tkm.tkm_manager_new(options, byref(manager), byref(error)), error)

got = []


def visit():
    token, error, length = c_void_p(), c_void_p(), c_size_t()
    check(tkm.tkm_manager_get(manager, byref(token), byref(error)), error)
    secret = ctypes.string_at(tkm.tkm_token_secret(token, byref(length)), length.value).decode()
    got.append((tkm.tkm_token_generation(token), secret))
    tkm.tkm_token_free(token)


threads = [threading.Thread(target=visit) for _ in range(20)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert len(got) == 20 and len(set(got)) == 1, got
assert all(data == 4711 and thread not in [t.ident for t in threads] for data, thread in callers), callers
assert tkm.tkm_manager_free(manager, 10000) == 0
assert destroyed == [4711], destroyed
print(f"ok 20 threads, {len(callers)} fetches")

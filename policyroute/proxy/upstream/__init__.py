"""Calling an upstream over HTTP/1.1: sockets and their pool in `pool`, the bytes of a response in two parsers, sans IO."""

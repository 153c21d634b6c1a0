"""The agentchat protocol, sans-I/O: frames, the client's machine, the server's machine.

``frames`` holds every frame as a struct, ``session`` is one client connection, ``seen`` what a
client keeps over reconnects.  ``server`` with ``door``, ``rooms`` and what these use is the whole
server without a socket.  A daemon imports only the client half.
"""

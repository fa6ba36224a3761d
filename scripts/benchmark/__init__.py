"""`scripts/bench`: what the server and the agent cost, measured here and now.

Every figure is the CPU that a process says it used, or a ratio of two of them from the same run: wall time on a shared
machine says little. The server is the real one, over real TLS, with a database that waits for its disk. The devices are
software TPMs in other processes (the server can't tell), so only what the server does is counted.
"""

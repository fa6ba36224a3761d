"""Serial ports, for boards and consoles alike."""

import errno
import fcntl
import os
import termios


def open_serial(path: str) -> int:
    """Open a serial port raw, 115200 baud, eight bits, no parity, and for nobody else meanwhile.

    Return a descriptor that does not block. Raises OSError, and termios.error for what is no terminal.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OSError(errno.EBUSY, "another process has the port") from None
        speed, control = termios.B115200, termios.tcgetattr(descriptor)[6]
        control[termios.VMIN], control[termios.VTIME] = 1, 0
        flags = termios.CS8 | termios.CREAD | termios.CLOCAL
        termios.tcsetattr(descriptor, termios.TCSANOW, [0, 0, flags, 0, speed, speed, control])
        termios.tcflush(descriptor, termios.TCIOFLUSH)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor

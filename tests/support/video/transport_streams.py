"""Damages MPEG transport streams (ISO/IEC 13818-1), as bad reception does."""

from pathlib import Path

__all__ = ["AUDIO", "VIDEO", "lose_packet", "move_times"]

#: The numbers (PID) that libav gives the first two streams of a file.
VIDEO, AUDIO = 0x100, 0x101
SIZE = 188
#: The start of a PES packet with sound.
START = b"\0\0\1\xc0"


def lose_packet(path: Path, pid: int, number: int) -> Path:
    """Remove the stream's packet with this number, counted from its first one, from the file."""
    packets = _packets(path)
    mine = [place for place, packet in enumerate(packets) if _pid(packet) == pid]
    del packets[mine[number]]
    path.write_bytes(b"".join(packets))
    return path


def move_times(path: Path, pid: int, numbers: slice, seconds: float) -> Path:
    """Move the display times in the stream's PES headers with these numbers by so many seconds."""
    packets = _packets(path)
    starts = [n for n, packet in enumerate(packets) if _pid(packet) == pid and packet[1] & 0x40]
    for start in starts[numbers]:
        packets[start] = _moved(packets[start], round(seconds * 90_000))
    path.write_bytes(b"".join(packets))
    return path


def _moved(packet: bytes, ticks: int) -> bytes:
    place = packet.index(START) + 9
    a, b, c, d, e = packet[place : place + 5]
    time = ticks + ((a >> 1 & 7) << 30 | b << 22 | c >> 1 << 15 | d << 7 | e >> 1)
    a, b, c = a & 0xF1 | (time >> 30 & 7) << 1, time >> 22 & 255, (time >> 15 & 127) << 1 | 1
    return packet[:place] + bytes((a, b, c, time >> 7 & 255, (time & 127) << 1 | 1)) + packet[place + 5 :]


def _packets(path: Path) -> list[bytes]:
    content = path.read_bytes()
    return [content[place : place + SIZE] for place in range(0, len(content), SIZE)]


def _pid(packet: bytes) -> int:
    return (packet[1] & 0x1F) << 8 | packet[2]

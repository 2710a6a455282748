"""Prints a line for each frame that arrives at an interface, until standard input closes.

A frame of the attack carries MARK in its bytes, wherever that may have ended up.
"""

import select
import socket
import sys

MARK = b"MIZAR-MARK"
PACKET_OUTGOING = 4


def main():
    interface = sys.argv[1]
    sniffer = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(0x0003))
    sniffer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    sniffer.bind((interface, 0))
    print("ready", flush=True)
    while True:
        ready, _, _ = select.select([sniffer, sys.stdin], [], [])
        if sniffer in ready:
            frame, address = sniffer.recvfrom(65535)
            if address[2] != PACKET_OUTGOING:
                print("MARK" if MARK in frame else "own", frame[:64].hex(), flush=True)
        elif not sys.stdin.read(1):
            return


main()

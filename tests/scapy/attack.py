"""Sends frames of every kind from an endpoint: well-formed to addresses of other tenants, with
stolen and random MACs and addresses, tunnelled by itself, fragmented, truncated, and random bytes.
All carry MARK, so that one that arrives anywhere is recognised.
"""

import argparse
import random
import socket

from scapy.all import ARP, ICMP, IP, TCP, UDP, Dot1Q, Ether, IPv6, Raw, RandIP, RandMAC, fragment
from scapy.contrib.geneve import GENEVE

MARK = b"MIZAR-MARK"
GATEWAY_MAC = "02:6d:69:7a:61:72"


def any_transport(rng):
    return rng.choice(
        [
            lambda: UDP(sport=rng.randrange(65536), dport=rng.choice([53, 67, 68, 6081, 7000, 4789])),
            lambda: TCP(sport=rng.randrange(65536), dport=7000, flags=rng.randrange(256)),
            lambda: ICMP(type=rng.choice([0, 3, 5, 8, 11, 13]), code=rng.randrange(16)),
        ]
    )() / Raw(MARK * rng.randrange(1, 20))


def frames(options, rng):
    targets = [target.split("=") for target in options.targets.split(",")]
    underlay = options.underlay.split(",")

    def ether(rng):
        destination = rng.choice([GATEWAY_MAC, "ff:ff:ff:ff:ff:ff", rng.choice(targets)[1], str(RandMAC())])
        source = rng.choice([options.mac, options.mac, options.mac, rng.choice(targets)[1], str(RandMAC())])
        return Ether(dst=destination, src=source)

    def honest(rng):
        return Ether(dst=GATEWAY_MAC, src=options.mac) / IP(src=options.address, dst=rng.choice(targets)[0])

    def to_target(rng):
        return honest(rng) / any_transport(rng)

    def spoofed(rng):
        source = rng.choice([options.address, rng.choice(targets)[0], rng.choice(underlay), str(RandIP())])
        target = rng.choice([rng.choice(targets)[0], rng.choice(underlay), str(RandIP())])
        return ether(rng) / IP(src=source, dst=target, ttl=rng.randrange(256)) / any_transport(rng)

    def tunnelled(rng):
        """A Geneve packet of the attacker's own, to hosts, with any VNI and an option like ours."""
        address, mac = rng.choice(targets)
        inner = Ether(dst=mac, src=options.mac) / IP(src=options.address, dst=address) / any_transport(rng)
        outer = IP(src=rng.choice([options.address] + underlay), dst=rng.choice(underlay))
        vni = rng.randrange(1 << 24)
        return ether(rng) / outer / UDP(sport=rng.randrange(49152, 65536), dport=6081) / GENEVE(vni=vni) / inner

    def vlan(rng):
        return ether(rng) / Dot1Q(vlan=rng.randrange(4096)) / IP(dst=rng.choice(targets)[0]) / any_transport(rng)

    def arp(rng):
        address, mac = rng.choice(targets)
        return ether(rng) / ARP(op=rng.choice([1, 2]), psrc=address, pdst=address, hwsrc=mac) / Raw(MARK)

    def six(rng):
        return ether(rng) / IPv6(src="fe80::1", dst="ff02::1") / any_transport(rng)

    def options_in_header(rng):
        packet = honest(rng)
        packet[IP].options = [b"\x83\x07\x04" + socket.inet_aton(rng.choice(underlay)) + b"\x00"]
        return packet / any_transport(rng)

    def error_about_nothing(rng):
        address, _ = rng.choice(targets)
        about = IP(src=options.address, dst=address) / UDP(sport=1, dport=2) / Raw(MARK)
        return honest(rng) / ICMP(type=3, code=4) / about

    def cut(rng):
        whole = bytes(to_target(rng))
        return whole[: rng.randrange(14, len(whole))]

    def garbage(rng):
        return bytes(rng.randrange(256) for _ in range(rng.randrange(0, 60))) + MARK * rng.randrange(1, 100)

    def garbage_ip(rng):
        head = bytes(Ether(dst=GATEWAY_MAC, src=options.mac, type=0x0800))
        return head + b"\x45" + bytes(rng.randrange(256) for _ in range(19)) + MARK

    kinds = [
        to_target, spoofed, tunnelled, vlan, arp, six, options_in_header, error_about_nothing, cut, garbage, garbage_ip,
    ]
    for _ in range(options.frames):
        for kind in kinds:
            yield bytes(kind(rng))
    for address, _ in targets:
        big = Ether(dst=GATEWAY_MAC, src=options.mac) / IP(src=options.address, dst=address) / UDP(sport=9, dport=9)
        for piece in fragment(big / Raw(MARK * 400), fragsize=600):
            yield bytes(piece)


def main():
    parser = argparse.ArgumentParser()
    for name in ("interface", "mac", "address", "underlay", "targets"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--frames", type=int, required=True)
    options = parser.parse_args()
    sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    sender.bind((options.interface, 0))
    sent = 0
    for frame in frames(options, random.Random(7)):
        try:
            sender.send(frame.ljust(14, b"\0")[:1412])
            sent += 1
        except OSError:
            pass
    print("sent", sent)


main()

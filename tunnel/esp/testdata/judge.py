"""Opens ESP packets and makes some, by scapy: a judge for TestScapy. JSON on stdin, a line of it for each packet on stdout."""

import json
import sys

from scapy.config import conf

conf.verb = 0
from scapy.layers.inet import IP, UDP  # noqa: E402
from scapy.layers.ipsec import ESP, SecurityAssociation  # noqa: E402


def association(case):
    return SecurityAssociation(
        ESP,
        spi=case["spi"],
        seq_num=case["sequence"] & 0xFFFFFFFF,
        crypt_algo=case["cipher"],
        crypt_key=bytes.fromhex(case["key"]),
        tunnel_header=IP(src="192.0.2.1", dst="192.0.2.2"),
        nat_t_header=UDP(sport=4500, dport=4500),
        esn_en=case["esn"],
        esn=case["sequence"] >> 32,
    )


for case in json.load(sys.stdin):
    inner = bytes.fromhex(case["inner"])
    outer = IP(src="192.0.2.1", dst="192.0.2.2") / UDP(sport=4500, dport=4500) / ESP(bytes.fromhex(case["sealed"]))
    outer = IP(bytes(outer))
    opened = association(case).decrypt(outer)
    sealed = association(case).encrypt(IP(inner), iv=case["sequence"].to_bytes(8, "big"))
    # The sender counts up before it seals in some versions: say what is really there.
    print(json.dumps({"name": case["name"], "opened": bytes(opened).hex(), "sealed": bytes(sealed[ESP]).hex()}))

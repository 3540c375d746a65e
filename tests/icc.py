"""Colour profiles, written from the definition of their format."""

import struct

D50 = (0.9642, 1.0, 0.8249)
# columns: red, green and blue of Display P3 and of Adobe RGB, adapted to D50
P3 = [[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]]
ADOBE = [[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]]
SRGB_D50 = [[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]]


def fixed(value):
    return struct.pack(">i", round(value * 65536))


def profile(matrix, gamma=2.2, space=b"RGB "):
    """A colour profile of primaries, or of grey, and a gamma."""
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    tags = {b"wtpt": b"XYZ " + bytes(4) + b"".join(map(fixed, D50))}
    text = b"of a test\0"
    tags[b"desc"] = b"desc" + bytes(4) + struct.pack(">I", len(text)) + text + bytes(78)
    tags[b"cprt"] = b"text" + bytes(4) + b"none\0"
    for number, name in enumerate((b"r", b"g", b"b") if space == b"RGB " else ()):
        tags[name + b"XYZ"] = b"XYZ " + bytes(4) + b"".join(fixed(row[number]) for row in matrix)
        tags[name + b"TRC"] = curve
    if space == b"GRAY":
        tags[b"kTRC"] = curve
    table, body, at = b"", b"", 132 + 12 * len(tags)
    for name, content in tags.items():
        content += bytes(-len(content) % 4)
        table += name + struct.pack(">II", at + len(body), len(content))
        body += content
    size = at + len(body)
    head = struct.pack(">I", size) + b"lcms" + b"\x02\x40\0\0" + b"mntr" + space + b"XYZ "
    head += bytes(12) + b"acsp" + bytes(28) + b"".join(map(fixed, D50))
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body

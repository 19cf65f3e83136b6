"""Seeded changes of sound files: of their bytes, of what lies in archives, and of plain values."""

import io
import json
import zipfile

NUMBERS = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1]
ODD = [
    *(
        None,
        True,
        -1,
        0,
        1,
        7,
        3_000_000,
        2**31,
        2**63,
        2**70,
        10**30,
        -0.5,
        1e300,
        float("inf"),
        float("nan"),
    ),
    *(
        "",
        "x",
        "0",
        "../../etc/passwd",
        "/etc/passwd",
        "a\0b",
        "\x1b[31m",
        "\udcff",
        "=1+1",
        "&a [*a]",
        "[" * 60,
    ),
    *(
        [],
        {},
        [1],
        {"a": 1},
        [[]],
        [None],
        "y" * 20_000,
        [60000, 60000],
        {"a": {"b": [1, {"c": None}]}},
        b"bytes",
    ),
]


def blind(content: bytes, random) -> bytes:
    """One to four changes of bytes anywhere."""
    made = bytearray(content)
    for _ in range(random.randint(1, 4)):
        place = random.randrange(len(made) + 1)
        # The beginning says what the rest is.
        place = place if random.random() < 0.6 else random.randrange(min(len(made), 512) + 1)
        length = random.choice([1, 2, 4, 8, 64, max(1, len(made) // 3)])
        match random.randrange(7):
            case 0:
                made[place : place + 1] = bytes([random.randrange(256)])
            case 1 if place < len(made):
                made[place] ^= 1 << random.randrange(8)
            case 2:
                width = random.choice([1, 2, 4, 8])
                number = random.choice(NUMBERS) % 2 ** (8 * width)
                made[place : place + width] = number.to_bytes(width, random.choice(["little", "big"]))
            case 3:
                del made[place:]
            case 4:
                del made[place : place + length]
            case 5:
                made[place:place] = made[place : place + length] * random.choice([1, 2, 50])
            case 6:
                made[place:place] = random.randbytes(length)
    return bytes(made[: 4 * len(content) + 4096])


def archive(content: bytes, random) -> bytes:
    """A zip archive with one member changed, and checksums that fit; sometimes changed blindly."""
    if random.random() < 0.2:
        return blind(content, random)
    with zipfile.ZipFile(io.BytesIO(content)) as old:
        members = {name: old.read(name) for name in old.namelist()}
    name = random.choice(list(members))
    members[name] = blind(members[name], random)
    made = io.BytesIO()
    with zipfile.ZipFile(
        made, "w", zipfile.ZIP_STORED if random.random() < 0.5 else zipfile.ZIP_DEFLATED
    ) as new:
        for name, part in members.items():
            new.writestr(name, part)
    return made.getvalue()


def tree(value, random, odd=ODD):
    """Plain values with one or two of them replaced, removed, or put under another name."""
    for _ in range(random.randint(1, 2)):
        value = _changed(value, random, odd)
    return value


def _changed(value, random, odd):
    if isinstance(value, dict) and value and random.random() < 0.9:
        key = random.choice(list(value))
        made = dict(value)
        match random.randrange(8):
            case 0:
                del made[key]
            case 1:
                made[random.choice(["x", "\udcff", key])] = made.pop(key)
            case _:
                made[key] = _changed(value[key], random, odd)
        return made
    if isinstance(value, (list, tuple)) and value and random.random() < 0.8:
        place = random.randrange(len(value))
        made = list(value)
        made[place] = _changed(value[place], random, odd)
        return made if random.random() < 0.9 else made * 2
    return random.choice(odd)


def written(value, random) -> bytes:
    """Changed values as JSON, which is YAML too; sometimes the text is changed once more."""
    text = json.dumps(tree(value, random, [each for each in ODD if not isinstance(each, bytes)]))
    if random.random() < 0.1:
        text = text.replace(":", ': 1e999, "x":', 1) if random.random() < 0.5 else "[" * 50_000 + text
    content = text.encode("utf-8", "surrogatepass")
    return blind(content, random) if random.random() < 0.3 else content

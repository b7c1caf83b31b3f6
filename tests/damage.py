"""Damage for files: at places in nested values and in bytes, drawn by hypothesis."""

import json

from hypothesis import strategies as st

LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(
    ["ok", "diverged", "no_improvement", "patience", "non_finite", "0.1", "=1+1", "a\nb", 1, 2, 3.0, 2**63, 10**30, -1,
     0.0, 1.0, 1e308])
VALUES = LEAVES | st.lists(LEAVES, max_size=4) | st.dictionaries(st.text(max_size=4), LEAVES, max_size=3)
TOKENS = [
    b"null", b"true", b"-1", b"0", b"1e999", b"NaN", b"-Infinity", b"9" * 30, b"9" * 5000, b"1.0", b'"ok"', b'""',
    b'"\\ud800"', b"[]", b"{}", b"[" * 2000, b'{"a":' * 500, b"\x00", b"\xff", b"\n", b", ", b": ", b"- ",
    b"&a ", b"*a", b"!!int ''", b"!!python/object:os.system x", b"!!timestamp x", b"<<: ", b"'", b"#", b"2001-99-99",
    b".inf", b"0x" + b"f" * 9000,
]
WHERE = st.integers(0, 2**20)
IN_BYTES = st.lists(
    st.tuples(st.sampled_from(["flip", "cut", "drop", "insert", "copy", "replace"]), WHERE, WHERE,
              st.sampled_from(TOKENS) | st.binary(min_size=1, max_size=6)),
    min_size=1, max_size=4,
)


def mutated(content: bytes, changes) -> bytes:
    """Apply changes one after another; `place` and `more` say where and how long."""
    for kind, place, more, token in changes:
        at = place % (len(content) + 1)
        length = more % 40 + 1
        middle = {
            "flip": bytes(byte ^ (1 << more % 8) for byte in content[at : at + 1]),
            "cut": None,
            "drop": b"",
            "insert": token + content[at : at + length],
            "copy": content[more % (len(content) + 1) :][: 3 * length],
            "replace": token,
        }[kind]
        end = at + (1 if kind == "flip" else length)
        content = content[:at] if middle is None else content[:at] + middle + content[end:]
    return content


def places_in(value, prefix=()):
    """Every place in nested mappings and lists."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*prefix, key)
        yield from places_in(item, (*prefix, key))


def with_changes(value, changes):
    """A deep copy with values replaced or (value Ellipsis) removed; places that are gone meanwhile are skipped."""
    value = json.loads(json.dumps(value))
    for (*parents, last), new in changes:
        target = value
        try:
            for key in parents:
                target = target[key]
            if new is ...:
                del target[last]
            else:
                target[last] = new
        except (KeyError, IndexError, TypeError):
            continue
    return value


def in_values(base):
    """Up to three places of a value, each with another value or none."""
    places = st.sampled_from(list(places_in(base)))
    return st.lists(st.tuples(places, VALUES | st.just(...)), min_size=1, max_size=3)

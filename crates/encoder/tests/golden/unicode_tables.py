"""Writes src/tokenizer/unicode.rs: the character classes by which BERT's reference
tokenizer cleans and splits text, found by showing it every code point.

    pip install tokenizers==0.23.3
    python3 unicode_tables.py TOKENIZER_JSON > ../../src/tokenizer/unicode.rs
"""

import sys
import unicodedata

from tokenizers import Tokenizer

tokenizer = Tokenizer.from_file(sys.argv[1])
normalize = tokenizer.normalizer.normalize_str
split = tokenizer.pre_tokenizer.pre_tokenize_str

ignored, marks, ideographs, punctuation = [], [], [], []
for code in range(0x80, 0x110000):
    if 0xD800 <= code < 0xE000:
        continue
    character = chr(code)
    between = normalize("a" + character + "b")
    if between == "ab":
        kind = unicodedata.category(character)
        # Marks go after decomposition, what is no text at all before it.
        (marks if kind[0] == "M" else ignored).append(code)
    elif between.startswith("a ") and between.endswith(" b"):
        ideographs.append(code)
    pieces = [piece for piece, _ in split("a" + character + "b")]
    if pieces == ["a", character, "b"]:
        punctuation.append(code)


def ranges(codes):
    joined = []
    for code in codes:
        if joined and joined[-1][1] + 1 == code:
            joined[-1][1] = code
        else:
            joined.append([code, code])
    return joined


def table(name, comment, codes):
    pairs = ranges(codes)
    print(f"\n/// {comment}")
    print(f"pub(super) const {name}: &[(u32, u32)] = &[")
    for first, last in pairs:
        print(f"    ({first:#x}, {last:#x}),")
    print("];")


print("//! Character classes of BERT's reference tokenizer beyond ASCII, as ranges of code points")
print("//! with both ends inside. Written by `tests/golden/unicode_tables.py`.")
print()
print("/// Whether a sorted table holds a character.")
print("pub(super) fn holds(table: &[(u32, u32)], character: char) -> bool {")
print("    let code = u32::from(character);")
print("    let after = table.partition_point(|&(first, _)| first <= code);")
print("    after > 0 && code <= table[after - 1].1")
print("}")
table("IGNORED", "Controls, formats, private use and the replacement character: dropped.", ignored)
table("MARKS", "Marks that take no space of their own: dropped once letters are decomposed.", marks)
table("IDEOGRAPHS", "Characters of which each is a word.", ideographs)
table("PUNCTUATION", "Punctuation: each a word.", punctuation)

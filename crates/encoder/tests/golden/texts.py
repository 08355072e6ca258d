"""Writes texts.json: the texts of which reference embeddings are kept."""

import json

texts = [
    "",
    "a",
    "How do I locate my card?",
    "I still have not received my new card, I ordered over a week ago.",
    "Why was I charged an extra fee when I paid with my card abroad, and how can I get it back?",
    "The quick brown fox jumps over the lazy dog.",
    "Software Developers",
    "Ünïcödé naïveté — “déjà vu” in Zürich: 東京タワー и Москва 😀",
    "[MASK] is a special text, [SEP] another.",
    "1234567890 !@#$%^&*() x=y+z",
    "word " * 14,
    "pneumonoultramicroscopicsilicovolcanoconiosis " * 3,
    " ".join(f"number {n} of a long list that is cut off in the end;" for n in range(40)),
]
print(json.dumps(texts, ensure_ascii=False, indent=0))

"""Makes the fixtures of this folder, once, with the libraries that people export from:
openpyxl 3.1.5 and pyarrow 26.0.1."""

import datetime

import openpyxl
import pyarrow as pa
import pyarrow.feather
import pyarrow.ipc
import pyarrow.parquet

TEXTS = ["where is my card?", "naïve café, or not", "line one\nline two", "", '"quoted"']
LABELS = ["arrival", "food", None, "food", "arrival"]
SPLITS = ["train", "train", "validation", "test", "test"]

book = openpyxl.Workbook()
sheet = book.active
sheet.title = "Messages"
sheet.append(["Text", "Label", "Split", "Age", "Score", "Vip", "Seen"])
for i, text in enumerate(TEXTS):
    seen = datetime.date(2026, 11, 21) if i else datetime.datetime(2026, 11, 21, 9, 30)
    sheet.append([text, LABELS[i], SPLITS[i], i, i + 0.5, i % 2 == 0, seen])
sheet.append([None] * 7)
sheet.append([12.5, 7, "test", 9, 1, False, None])
other = book.create_sheet("Other")
other.append(["just text"])
book.save("messages.xlsx")

plain = pa.table({
    "text": TEXTS,
    "label": pa.array(LABELS).dictionary_encode(),
    "split": pa.array(SPLITS, pa.large_string()),
    "age": pa.array(range(5), pa.uint8()),
    "score": pa.array([i + 0.5 for i in range(5)], pa.float32()),
    "vip": [True, False, True, False, None],
    "day": pa.array([datetime.date(2026, 11, 21)] * 5),
})
for codec in ["snappy", "gzip", "zstd", "lz4", "none"]:
    pa.parquet.write_table(plain, f"plain-{codec}.parquet", compression=codec)
for codec in ["lz4", "zstd", "uncompressed"]:
    pa.feather.write_feather(plain, f"plain-{codec}.arrow", compression=codec)
with pa.ipc.new_stream("plain.arrows", plain.schema) as stream:
    stream.write_table(plain, max_chunksize=2)

lists = pa.table({
    "text": pa.array(TEXTS, pa.string_view()),
    "labels": [["a", "b"], [], None, ["b"], ["c", "a"]],
    "votes": [[1, -1], [0], None, [], [2]],
})
pa.parquet.write_table(lists, "lists.parquet")
numbers = pa.table({"text": TEXTS, "label": pa.array([1.0, 2.0, None, 2.0, 1.0])})
pa.parquet.write_table(numbers, "numbers.parquet")

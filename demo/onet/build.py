"""Makes the files of this folder from the publisher's tab-separated text files.

    python3 demo/onet/build.py FOLDER_WITH_THE_PUBLISHERS_FILES

Writes occupations.csv.gz (the taxonomy: code, title, description) and titles.jsonl.gz
(one distinct lower-cased title a row, with its codes and its split). A title is in the
test split when the first eight bytes of its SHA-256, as a number, divide by ten; then
every row of that title is. The occupations' names and descriptions are training rows.
"""

import csv
import gzip
import hashlib
import io
import json
import sys
from pathlib import Path


def rows(path):
    with open(path, encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)


def write(path, text):
    # No file name and no time in the header: the same input gives the same bytes.
    with open(path, "wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as packed:
        packed.write(text.encode())


def is_test(title):
    return int.from_bytes(hashlib.sha256(title.encode()).digest()[:8], "big") % 10 == 0


def main():
    source, target = Path(sys.argv[1]), Path(__file__).parent
    occupations = list(rows(source / "Occupation Data.txt"))
    codes_of = {}
    for row in rows(source / "Alternate Titles.txt"):
        title = " ".join(row["Alternate Title"].lower().split())
        codes_of.setdefault(title, set()).add(row["O*NET-SOC Code"])

    taxonomy = io.StringIO()
    writer = csv.writer(taxonomy, lineterminator="\n")
    writer.writerow(["id", "name", "description"])
    lines = []
    for row in occupations:
        code, name = row["O*NET-SOC Code"], row["Title"]
        writer.writerow([code, name, row["Description"]])
        if not is_test(name.lower()):
            lines.append({"text": name, "labels": [code], "split": "train"})
        lines.append({"text": row["Description"], "labels": [code], "split": "train"})
    for title, codes in sorted(codes_of.items()):
        split = "test" if is_test(title) else "train"
        lines.append({"text": title, "labels": sorted(codes), "split": split})

    write(target / "occupations.csv.gz", taxonomy.getvalue())
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    write(target / "titles.jsonl.gz", text)
    tests = sum(line["split"] == "test" for line in lines)
    print(f"{len(occupations)} occupations, {len(codes_of)} titles, {tests} of them test rows")


main()

"""Counts the words of a text file; shipped to the nodes by ``word_count.py``."""

import re
from collections import Counter
from pathlib import Path


def words(path):
    return Counter(re.findall(r"[a-z']+", Path(path).read_text(encoding="utf-8").lower()))

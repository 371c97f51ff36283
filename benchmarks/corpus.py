"""Prompts made from texts that every checkout has: the repository's documents, code, policies, word lists and the messages of
`traces/`, and Python's own manual and library.

Seeded, without network. The library is there for variety: a tokenizer that remembers words would look faster on one
repository's vocabulary than on a stranger's prompt.
"""

from __future__ import annotations

import json
import random
import re
import sysconfig
from collections import Counter
from functools import cache
from pathlib import Path

import pyarrow.parquet as pq
from harness import ROOT

_KINDS = (
    "docs/*.md",
    "README.md",
    "policyroute/**/*.py",
    "tests/*.py",
    "scripts/**/*.py",
    "policies/**/*.route",
    "policies/**/*.txt",
    "grammar/*.lark",
)
# Languages that the repository's own texts lack.
_OTHER = (
    "Können Sie mir bitte erklären, wie ich die Rechnung für den letzten Monat als PDF herunterladen kann? Vielen Dank im Voraus!",
    "Bonjour, ma commande n'est toujours pas arrivée. Pourriez-vous vérifier où elle se trouve et me répondre avant demain ?",
    "Где посмотреть историю платежей за прошлый год? Нужен отчёт по месяцам в формате таблицы.",
    "请帮我总结这份合同的主要条款，并指出对我们不利的地方。谢谢！",
    "注文番号を確認したいのですが、どこを見ればよいでしょうか。よろしくお願いします。",
    "¿Podrían devolverme el importe? El pedido llegó roto 😞 y nadie contesta al teléfono.",
)


def _manual() -> dict[str, str]:
    from pydoc_data import topics

    return topics.topics


@cache
def passages() -> tuple[str, ...]:
    """Paragraphs, blocks of code and messages of 80 to 4,000 characters, without repetitions."""
    found: dict[str, None] = {}
    for kind in _KINDS:
        for path in sorted(ROOT.glob(kind)):
            for block in re.split(r"\n\s*\n", path.read_text("utf-8")):
                found[block.strip("\n")] = None
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        for block in re.split(r"\n\s*\n", path.read_text("utf-8", "replace")):
            found[block.strip("\n")] = None
    for topic in _manual().values():
        for block in re.split(r"\n\s*\n", topic):
            found[block.strip("\n")] = None
    for path in (ROOT / "traces" / f"{name}.parquet" for name in ("coding", "saas", "support")):
        for text in pq.read_table(path, columns=["messages"]).column(0).unique().to_pylist():
            for message in json.loads(text) if text else ():
                if isinstance(message.get("content"), str):
                    found[message["content"]] = None
    kept = [text for text in found if 80 <= len(text) <= 4_000]
    return (*kept, *_OTHER)


def prompts(count: int, mean: int, seed: int = 11) -> list[str]:
    """`count` prompts of about `mean` characters: consecutive cuts of the shuffled passages, lengths spread around the mean.

    No passage is used twice, so that no prompt was in part seen before. Raises ValueError where the corpus is too small.
    """
    rng = random.Random(seed)
    source = list(passages())
    rng.shuffle(source)
    text = "\n\n".join(source)
    made: list[str] = []
    at = 0
    while len(made) < count:
        length = max(80, int(rng.gauss(mean, mean / 4)))
        if at + length > len(text):
            raise ValueError(f"the corpus has {len(text):,} characters, too few for {count:,} prompts of {mean}")
        made.append(text[at : at + length])
        at += length
    return made


@cache
def _words() -> Counter[str]:
    return Counter(word for text in passages() for word in re.findall(r"[a-z]{5,}", text))


def keywords(count: int, seed: int = 3) -> list[str]:
    """`count` words that occur in the corpus now and then: about one prompt in four holds one of 50."""
    known = sorted(word for word, times in _words().items() if 20 <= times <= 200)
    return sorted(random.Random(seed).sample(known, count))

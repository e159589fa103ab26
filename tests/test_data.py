"""The data that ship with the project: complete, unique, and never on both sides of the split."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from classifier import from_row
from classifier.bundle import LAYOUT, find
from classifier.encoder import StaticEncoder
from classifier.router import CHECKOUT, MODELS
from training.dataset import TIERS, Example, read, text_key

PROMPTS = CHECKOUT / "data" / "prompts"
SOURCES = CHECKOUT / "data" / "SOURCES.md"
CORPUS = CHECKOUT / "benchmarks" / "corpus.jsonl"

FILES = sorted(PROMPTS.rglob("*.jsonl"))
FILE_NAMES = [file.relative_to(PROMPTS).as_posix() for file in FILES]
A_TIER = 200
SIMILAR = 0.97
OVERLAP = 0.6
SHORT = 20  # characters, up to which texts are alike without being the same question

Row = dict[str, Any]


def rows_of(file: Path) -> list[Row]:
    """The rows of a file, as they stand there."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line.strip()]


@pytest.fixture(name="examples", scope="module")
def _examples() -> list[Example]:
    """Every row, as training reads it."""
    return read([PROMPTS])


@pytest.fixture(name="by_split", scope="module")
def _by_split(examples: list[Example]) -> dict[str, list[Example]]:
    """The rows of each split."""
    return {split: [example for example in examples if example.split == split] for split in ("train", "test")}


# rows


def test_there_are_prompts_to_train_on_and_to_test_with() -> None:
    """Both folders hold files; the tests below are about something."""
    assert any(file.parent == PROMPTS for file in FILES)
    assert any(file.parent == PROMPTS / "test" for file in FILES)


@pytest.mark.parametrize("file", FILES, ids=FILE_NAMES)
def test_every_row_is_readable_and_full(file: Path) -> None:
    """Id, group, source, the prompt, its label, and what slices of the evaluation need."""
    read([file])
    for row in rows_of(file):
        for field in ("id", "group", "source", "task", "style", "language"):
            assert isinstance(row[field], str), (row["id"], field)
            assert row[field].strip(), (row["id"], field)
        assert len({"prompt", "messages"} & row.keys()) == 1, row["id"]
        assert len({"tier", "votes"} & row.keys()) == 1, row["id"]
        assert re.fullmatch(r"[a-z]{2}", row["language"]), row["id"]


def test_every_row_below_test_is_a_test_row_and_no_other_is(examples: list[Example], by_split: dict[str, list[Example]]) -> None:
    """The split is the folder, as data/README.md says."""
    below = {row["id"] for file in FILES if file.parent != PROMPTS for row in rows_of(file)}
    assert {example.id for example in by_split["test"]} == below
    assert len(by_split["train"]) + len(by_split["test"]) == len(examples)


def test_ids_are_unique(examples: list[Example]) -> None:
    """Over all files, so that a row can be named."""
    assert [name for name, count in Counter(example.id for example in examples).items() if count > 1] == []


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_tier_has_enough_rows(by_split: dict[str, list[Example]], split: str) -> None:
    """Enough to learn from, and enough to bound a risk."""
    counts = Counter(example.label for example in by_split[split])
    assert min(counts[tier] for tier in range(len(TIERS))) >= A_TIER


# nothing on both sides


def test_no_text_is_both_learned_and_tested(by_split: dict[str, list[Example]]) -> None:
    """Whatever its case, spacing and punctuation."""
    train, test = ({text_key(example.prompt.text) for example in by_split[split]} for split in ("train", "test"))
    assert train & test == set()


def test_no_group_is_both_learned_and_tested(by_split: dict[str, list[Example]]) -> None:
    """Rows of one scenario stay together."""
    train, test = ({example.group for example in by_split[split]} for split in ("train", "test"))
    assert train & test == set()


def names(pairs: NDArray[np.bool_], test: list[Example], train: list[Example]) -> list[tuple[str, str]]:
    """The ids of the pairs (n_test, n_train) that are of one language and not short."""
    return [
        (test[i].id, train[j].id)
        for i, j in np.argwhere(pairs)
        if test[i].language == train[j].language and min(len(test[i].prompt.text), len(train[j].prompt.text)) > SHORT
    ]


def is_latin(text: str) -> bool:
    """Whether most letters are of the script whose words the encoder knows; it spells others character by character, and then
    any two texts of a language are alike.
    """
    letters = [character for character in text if character.isalpha()]
    return 2 * sum(character < "\u0250" for character in letters) >= len(letters)


def test_no_near_duplicate_is_both_learned_and_tested(by_split: dict[str, list[Example]]) -> None:
    """By the embedding that training starts from, where it knows the script."""
    encoder = StaticEncoder(MODELS / "encoder")
    train, test = ([example for example in by_split[split] if is_latin(example.prompt.text)] for split in ("train", "test"))
    learned, tested = (encoder.encode([example.prompt.text for example in side]) for side in (train, test))
    assert len(train) > 0.9 * len(by_split["train"])
    assert names(tested @ learned.T > SIMILAR, test, train) == []


def pieces_of(text: str) -> set[str]:
    """The runs of five characters in a text, case and punctuation aside."""
    plain = " ".join(re.findall(r"\w+", text.lower()))
    return {plain[start : start + 5] for start in range(max(1, len(plain) - 4))}


def test_no_wording_is_both_learned_and_tested(by_split: dict[str, list[Example]]) -> None:
    """Two texts share at most six tenths of their pieces (Jaccard), in any script."""
    sides = by_split["test"], by_split["train"]
    index: dict[str, int] = {}
    matrices = []
    for side in sides:
        places = [
            (row, index.setdefault(piece, len(index))) for row, example in enumerate(side) for piece in pieces_of(example.prompt.text)
        ]
        matrices.append((np.array(places), len(side)))
    test, train = (csr_matrix((np.ones(len(at)), (at[:, 0], at[:, 1])), shape=(n, len(index))) for at, n in matrices)
    shared = (test @ train.T).toarray()
    either = np.asarray(test.sum(axis=1)) + np.asarray(train.sum(axis=1)).T - shared
    assert names(shared > OVERLAP * either, *sides) == []


def test_the_benchmark_corpus_shares_no_text_with_the_prompts(examples: list[Example]) -> None:
    """What latency and peers are measured on was not learned from."""
    if not CORPUS.is_file():
        pytest.skip("there is no benchmarks/corpus.jsonl")
    corpus = {text_key(from_row(row).text): number for number, row in enumerate(rows_of(CORPUS), 1)}
    shared = corpus.keys() & {text_key(example.prompt.text) for example in examples}
    assert sorted(corpus[key] for key in shared) == []


# where the rest comes from


@pytest.fixture(name="digests", scope="module")
def _digests() -> dict[str, str]:
    """sha256 by file name, as data/SOURCES.md lists them."""
    lines = re.findall(r"^([0-9a-f]{64})  (\S+)$", SOURCES.read_text(encoding="utf-8"), re.MULTILINE)
    return {name: digest for digest, name in lines}


def test_every_source_has_origin_licence_and_digest(digests: dict[str, str]) -> None:
    """The table and the list of digests are about the same files."""
    rows = re.findall(r"^\| `(\S+\.jsonl)` \| [\d,]+ \| .* \| (.*) \|$", SOURCES.read_text(encoding="utf-8"), re.MULTILINE)
    assert rows
    assert {name for name, _ in rows} | {"pools.json"} == set(digests)
    for name, origin in rows:
        assert re.search(r"\((Apache-2\.0|MIT|CC-BY-4\.0|CC0)", origin), name


def test_every_outcome_file_that_the_shipped_bundle_learned_from_is_named(digests: dict[str, str]) -> None:
    """With the digest that the manifest has, and the texts of labels; whatever else it learned from is in this repository."""
    manifest = json.loads((find(MODELS) / LAYOUT.manifest).read_bytes())
    assert manifest["data"]
    for name, entry in manifest["data"].items():
        folder, _, file = name.partition("/")
        if folder not in {"prompts", "labels", "augment"}:
            assert digests.get(Path(file or folder).name) == entry["sha256"], name

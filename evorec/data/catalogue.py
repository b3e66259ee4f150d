"""Published data sets that evorec reads: where they are, how large they are, and what their publishers say of them.

A checksum stands here only where somebody published it: the MD5 sums are the publishers' own (``.md5`` files of
GroupLens, records of Zenodo), the SHA-256 sums of MovieLens those that TensorFlow Datasets and others checked against
the same archives. Where there is none, the first download is trusted and remembered (`evorec.data.fetch`).
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final, final
from urllib.parse import unquote, urlsplit

from evorec.errors import ConfigError

NO_COMMERCE: Final = "research, not commercial; conditions in its README"
KUAISHOU: Final = "CC BY-SA 4.0"
GROUPLENS: Final = "https://files.grouplens.org/datasets/movielens"
UCSD: Final = "https://mcauleylab.ucsd.edu/public_datasets/data"


@final
@dataclass(frozen=True)
class RemoteFile:
    """One file to download.

    Attributes:
        url: where it is.
        size_bytes: of the file, None where it is not known.
        sha256: hexadecimal, None where nobody published it.
        md5: hexadecimal, None where nobody published it.
    """

    url: str
    size_bytes: int | None = None
    sha256: str | None = None
    md5: str | None = None

    @property
    def name(self) -> str:
        """Last part of the address."""
        return PurePosixPath(unquote(urlsplit(self.url).path)).name

    @property
    def is_published(self) -> bool:
        """Whether somebody published a checksum."""
        return self.sha256 is not None or self.md5 is not None


@final
@dataclass(frozen=True)
class DataSet:
    """One published data set.

    Attributes:
        name: for ``evorec data get`` and, afterwards, for ``data.path``.
        about: one line.
        reader: value of ``data.reader``.
        licence: what its publisher asks for.
        homepage: to read more, and where files are looked for by hand.
        files: to download; archives are unpacked; empty for a data set that has to be fetched by hand.
        holds: name, or pattern, of a file that marks the folder to read.
        by_hand: why it cannot be downloaded, and what to do instead.
    """

    name: str
    about: str
    reader: str
    licence: str
    homepage: str
    files: tuple[RemoteFile, ...] = ()
    holds: str = "*"
    by_hand: str = ""

    @property
    def size_bytes(self) -> int | None:
        """Of the download; None where a part of it is not known."""
        sizes = [file.size_bytes for file in self.files]
        known = [size for size in sizes if size is not None]
        return sum(known) if sizes and len(known) == len(sizes) else None


def _movielens(version: str, about: str, file: RemoteFile, holds: str = "ratings.csv") -> DataSet:
    homepage = f"https://grouplens.org/datasets/movielens/{version.removesuffix('-small')}/"
    return DataSet(f"movielens-{version}", about, "movielens", NO_COMMERCE, homepage, (file,), holds)


def _kuairand(version: str, about: str, size_bytes: int, md5: str) -> DataSet:
    url = f"https://zenodo.org/records/10439422/files/KuaiRand-{version}.tar.gz"
    file = RemoteFile(url, size_bytes, md5=md5)
    name = f"kuairand-{version.lower()}"
    return DataSet(name, about, "kuairand", KUAISHOU, "https://kuairand.com", (file,), "log_standard_*.csv")


_DATA_SETS: Final = (
    _movielens(
        "latest-small",
        "100,836 ratings of 9,742 films by 610 users; may change over time, so not for shared results",
        RemoteFile(
            f"{GROUPLENS}/ml-latest-small.zip",
            978_202,
            "696d65a3dfceac7c45750ad32df2c259311949efec81f0f144fdfb91ebc9e436",
        ),
    ),
    _movielens(
        "100k",
        "100,000 ratings of 1,682 films by 943 users with age, gender and occupation (1998)",
        RemoteFile(
            f"{GROUPLENS}/ml-100k.zip",
            4_924_029,
            "50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
            "0e33842e24a9c977be4e0107933c0723",
        ),
        "u.data",
    ),
    _movielens(
        "1m",
        "1,000,209 ratings of 3,900 films by 6,040 users with age, gender and occupation (2003)",
        RemoteFile(
            f"{GROUPLENS}/ml-1m.zip",
            5_917_549,
            "a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20",
            "c4d9eecfca2ab87c1945afe126590906",
        ),
        "ratings.dat",
    ),
    _movielens(
        "10m",
        "10,000,054 ratings of 10,681 films by 71,567 users (2009)",
        RemoteFile(
            f"{GROUPLENS}/ml-10m.zip",
            65_566_137,
            "813c411ccb6122564edfe752e7f80c4dcc5aa25fa94c93622f6877a7ba252862",
            "ce571fd55effeba0271552578f2648bd",
        ),
        "ratings.dat",
    ),
    _movielens(
        "20m",
        "20,000,263 ratings of 27,278 films by 138,493 users, tag genome (2015)",
        RemoteFile(
            f"{GROUPLENS}/ml-20m.zip",
            198_702_078,
            "96f243c338a8665f6bcc89c53edf6ee39162a846940de6b7c8c48aeada765ff3",
            "cd245b17a1ae2cc31bb14903e1204af3",
        ),
    ),
    _movielens(
        "25m",
        "25,000,095 ratings of 62,423 films by 162,541 users, tag genome (2019)",
        RemoteFile(
            f"{GROUPLENS}/ml-25m.zip",
            261_978_986,
            "8b21cfb7eb1706b4ec0aac894368d90acf26ebdfb6aced3ebd4ad5bd1eb9c6aa",
            "6b51fb2759a8657d3bfcbfc42b592ada",
        ),
    ),
    _movielens(
        "32m",
        "32,000,204 ratings of 87,585 films by 200,948 users (2023)",
        RemoteFile(
            f"{GROUPLENS}/ml-32m.zip",
            238_950_008,
            "e4a68655d7386b8f95f2f2424b2ff975dfdd15ffd59e0d864a14dca43e99d6ee",
            "d472be332d4daa821edc399621853b57",
        ),
    ),
    _kuairand(
        "Pure",
        "short-video impressions on 7,583 videos by 27,285 users, 12 kinds of feedback (2022)",
        47_432_272,
        "0820331067a3784d9691136f772b35a7",
    ),
    _kuairand(
        "1K",
        "the same for 1,000 users and all their videos; 4 GB unpacked",
        1_135_436_720,
        "6b0b9c8222d67fcd4c676218edca3f1f",
    ),
    _kuairand(
        "27K",
        "the same for all 27,285 users and their 32 million videos; 46 GB unpacked",
        9_892_191_178,
        "3e3c799a24e2d23a4d2c757fbf9adf59",
    ),
    DataSet(
        "kuairec",
        "watch ratios of 10,728 videos by 7,176 users, one part nearly fully observed (2022)",
        "kuairec",
        KUAISHOU,
        "https://kuairec.com",
        (
            RemoteFile(
                "https://zenodo.org/records/18164998/files/KuaiRec.zip",
                431_964_858,
                md5="261550d472c48eff4990fb13c0e5bcf7",
            ),
        ),
        "big_matrix.csv",
    ),
    DataSet(
        "amazon-2023-all-beauty",
        "701,500 reviews of 112,600 beauty products, with their metadata (2023)",
        "amazon",
        "none stated, citation asked for",
        "https://amazon-reviews-2023.github.io",
        (
            RemoteFile(f"{UCSD}/amazon_2023/raw/review_categories/All_Beauty.jsonl.gz"),
            RemoteFile(f"{UCSD}/amazon_2023/raw/meta_categories/meta_All_Beauty.jsonl.gz"),
        ),
        "All_Beauty.jsonl.gz",
    ),
    DataSet(
        "amazon-2018-video-games",
        "reviews of video games, users and items with five or more, with metadata (2018)",
        "amazon",
        "none stated, citation asked for",
        "https://nijianmo.github.io/amazon/",
        (
            RemoteFile(f"{UCSD}/amazon_v2/categoryFilesSmall/Video_Games_5.json.gz"),
            RemoteFile(f"{UCSD}/amazon_v2/metaFiles2/meta_Video_Games.json.gz"),
        ),
        "Video_Games_5.json.gz",
    ),
    DataSet(
        "retailrocket",
        "2,756,101 views, add-to-carts and transactions of 1.4 million visitors of a shop (2015)",
        "retailrocket",
        "CC BY-NC-SA 4.0",
        "https://www.kaggle.com/datasets/retailrocket/ecommerce-dataset",
        holds="events.csv",
        by_hand="Kaggle asks for an account",
    ),
    DataSet(
        "aliexpress",
        "searches of AliExpress in one country, with clicks and conversions (2020)",
        "aliexpress",
        "research",
        "https://tianchi.aliyun.com/dataset/74690",
        holds="train.csv",
        by_hand="Tianchi asks for an account; train.csv and test.csv are made from its files by data/preprocess.py of "
        "https://github.com/easezyc/Multitask-Recommendation-Library, which also links to a folder with them",
    ),
    DataSet(
        "ali-ccp",
        "85 million impressions of Taobao, with clicks and purchases (2018)",
        "aliccp",
        "research, not commercial",
        "https://tianchi.aliyun.com/dataset/408",
        holds="ctr_cvr.train",
        by_hand="Tianchi asks for an account; ctr_cvr.train, .dev and .test are made from its files by "
        "process_public_data.py of https://github.com/xidongbo/AITM",
    ),
)

CATALOGUE: Final[Mapping[str, DataSet]] = {data_set.name: data_set for data_set in _DATA_SETS}
"""Name -> data set, in the order in which they are listed."""


def licence_of(reader: str) -> str:
    """What publishers of the data that a reader reads ask for; empty where it is the user's own data.

    Example:
        >>> licence_of("kuairand"), licence_of("table")
        ('CC BY-SA 4.0', '')
    """
    found = dict.fromkeys(data_set.licence for data_set in CATALOGUE.values() if data_set.reader == reader)
    return "; or ".join(found)


def find(name: str) -> DataSet:
    """The data set of that name, in any case.

    Raises:
        ConfigError: there is none; names the ones that look alike.
    """
    if name.lower() in CATALOGUE:
        return CATALOGUE[name.lower()]
    alike = difflib.get_close_matches(name.lower(), CATALOGUE, n=3, cutoff=0.4)
    guess = f"did you mean {' or '.join(alike)}? " if alike else ""
    raise ConfigError(f"there is no data set {name!r}; {guess}`evorec data get --list` shows them all.")
